"""Where a report goes: standard output in one format, files in that of their suffix, GitHub's summary of the job."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rnn_export.cli._options import Command, console, emit, say
from rnn_export.errors import RnnExportError, UsageError
from rnn_export.reports import FORMATS, format_of, write_report
from rnn_export.text_file import check_place, write_text

if TYPE_CHECKING:
    from rich.console import Console

    from rnn_export.report import Report

format_option = click.option(
    "--format",
    "style",
    type=click.Choice(FORMATS.names()),
    default="human",
    show_default=True,
    help="Of standard output; github also adds the Markdown page to the summary of the job.",
)


def files_option(*names: str) -> Callable[[Command], Command]:
    """Where else a report goes."""
    formats = ", ".join(f"{item.suffix} {item.summary}" for item in FORMATS if item.suffix)
    said = f"Also write it to a file, in the format of its suffix: {formats}. May be given several times."
    return click.option(*names, "files", multiple=True, type=click.Path(path_type=Path), help=said)


@contextmanager
def errors_reported(style: str, files: Sequence[Path]) -> Iterator[None]:
    """Every place is looked at before the work begins; what is raised meanwhile goes to machines in their formats.

    Args:
        style: the format of standard output.
        files: where else the report will go.

    Raises:
        UsageError: a file has the suffix of no report, or what a format needs is not installed.
        OutputError: a file cannot be written.
    """
    FORMATS.get(style).check_installed()
    for file in files:
        format_of(file)
        check_place(file)
    try:
        yield
    except RnnExportError as error:
        _deliver_error(error, style, files)
        raise
    except click.UsageError as error:
        _deliver_error(UsageError(error.format_message()), style, files)
        raise


def deliver(
    report: "Report",
    style: str,
    files: Sequence[Path],
    print_human: "Callable[[Report, Console], None] | None" = None,
) -> None:
    """Print the report, write it to the files, and with the style github to the summary of the job.

    Args:
        report: what was found.
        style: the format of standard output.
        files: where else it goes.
        print_human: a table of its own for the style human.

    Raises:
        OutputError: a file cannot be written.
    """
    if style == "human":
        from rnn_export.table import print_report

        (print_human or print_report)(report, console())
    else:
        emit(FORMATS.get(style).render(report))
    for file in files:
        write_report(report, file)
    if style == "github":
        _append_summary(report)


def _deliver_error(error: RnnExportError, style: str, files: Sequence[Path]) -> None:
    if (render := FORMATS.get(style).render_error) is not None:
        emit(render(error))
    for file in files:
        if (render := format_of(file).render_error) is not None:
            write_text(file, render(error))


def _append_summary(report: "Report") -> None:
    """The file is the job's and holds what other commands said: it is added to, and nothing is replaced."""
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if not place:
        return
    try:
        with Path(place).open("a", encoding="utf-8") as stream:
            stream.write(f"{FORMATS.get('markdown').render(report)}\n")
    except OSError as error:  # the verdict stands, and was printed
        say(f"note: the summary of the job cannot be written: {error.strerror}")
