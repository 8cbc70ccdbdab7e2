"""The formats of a report. A format is one file in this folder, and renders the one model in ``rnn_export.report``.

Contract. ``render(report)`` returns the whole text, which is the same for the same report. Names of files, nodes and
runtimes may be hostile: it escapes what it takes as its format asks. Where machines read the format, ``render_error``
says in it that a verification could not begin.

How to add a format: write ``reports/NAME.py`` with ``render`` under ``@report_format(NAME, ...)``. Nothing else is
edited: the folder is the registry, and the contract tests find the format there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnn_export.errors import RnnExportError, UsageError
from rnn_export.registry import Registry
from rnn_export.report import Report
from rnn_export.text_file import write_text

Render = Callable[[Report], str]
RenderError = Callable[[RnnExportError], str]


@dataclass(frozen=True)
class Format:
    """A way to write a report.

    Attributes:
        summary: what it is for, on one line.
        render: makes the text.
        suffix: of the files that it is written to; empty where it is for standard output only.
        render_error: says that the verification could not begin; None where only people read the format.
        needs: modules that have to be importable.
        extra: the extra of rnn-export that brings them.
    """

    name: str
    summary: str
    render: Render
    suffix: str = ""
    render_error: RenderError | None = None
    needs: tuple[str, ...] = ()
    extra: str = ""

    def check_installed(self) -> None:
        """Raises UsageError where a module that it needs is not installed."""
        if missing := [name for name in self.needs if find_spec(name) is None]:
            raise UsageError(
                f"the format {self.name} needs {missing[0]}, which is not installed",
                f"Run: pip install 'rnn-export[{self.extra}]'",
            )


FORMATS: Registry[Format] = Registry("format", __name__)


def report_format(name: str, *, summary: str, **options: Any) -> Callable[[Render], Render]:
    """Register the function under it as the format ``name``; the options are ``Format``'s attributes."""

    def register(render: Render) -> Render:
        FORMATS.add(Format(name, summary, render, **options))
        return render

    return register


def write_report(report: Report, file: str | Path) -> None:
    """Write a report in the format of the file's suffix, as a whole.

    Raises:
        UsageError: no format has the suffix, or what it needs is not installed.
        OutputError: the file cannot be written; what stood there is as it was.
    """
    file = Path(file)
    write_text(file, format_of(file).render(report))


def format_of(file: Path) -> Format:
    """The format that a file of that suffix is written in.

    Raises:
        UsageError: no format has the suffix, or what it needs is not installed.
    """
    for found in FORMATS:
        if found.suffix and found.suffix == file.suffix.lower():
            found.check_installed()
            return found
    known = ", ".join(sorted(item.suffix for item in FORMATS if item.suffix))
    raise UsageError(f"{file.name} has the suffix of no report", f"Choose one of {known}")
