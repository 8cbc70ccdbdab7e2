"""``rnn-export reproduce``."""

from pathlib import Path

import click

from rnn_export.cli._options import say


@click.command("reproduce")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--runtime", required=True, help="Where the artifact fails.")
@click.option("--code", help="Which finding, where there are several; a documented difference too.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
def command(artifact: Path, runtime: str, code: str | None, output: Path) -> None:
    """Shrink the failure of ARTIFACT on a runtime to a folder that its maintainers can run.

    The folder holds the smallest network that still fails, its inputs, what float64 gives for them, and a script that
    needs the runtime and numpy, and nothing of rnn-export.

    \b
    Examples:
      rnn-export reproduce my-rnn --runtime tract -o bug
      rnn-export reproduce my-rnn --runtime onnxruntime-cpu --code nan-swallowed -o bug
    """
    from rnn_export.environments import interpreter_of
    from rnn_export.reproduction import reproduce
    from rnn_export.runtimes import RUNTIMES

    found = reproduce(artifact, runtime, output, code=code)
    click.echo(f"{output}: {found.spec}, {found.row.case or 'loading'}, {found.row.status.value} [{found.row.code}]")
    say(f"{found.tried} networks were tried; next: cd {output} && {interpreter_of(RUNTIMES.get(runtime))} reproduce.py")
