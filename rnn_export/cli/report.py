"""``rnn-export report``."""

from pathlib import Path

import click

from rnn_export.cli._reporting import deliver, errors_reported, files_option, format_option


@click.command("report")
@click.argument("result", type=click.Path(path_type=Path))
@files_option("-o", "--output")
@format_option
def command(result: Path, files: tuple[Path, ...], style: str) -> int:
    """Render RESULT, a .json that `rnn-export verify --report` wrote, in other formats. Nothing is run.

    Ends with 0 whatever the verdict is: it is that of the verification.

    \b
    Examples:
      rnn-export report result.json
      rnn-export report result.json -o page.html -o junit.xml
    """
    from rnn_export.report import read_report

    with errors_reported(style, files):
        report = read_report(result)
    deliver(report, style, files)
    return 0
