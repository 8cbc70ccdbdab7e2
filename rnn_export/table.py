"""A report as a table that a person likes to read."""

import sys
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from rnn_export.result import Result, Status
from rnn_export.summary import by_runtime, findings_of, last_line, printable, verdict_of

if TYPE_CHECKING:
    from rich.console import Console

    from rnn_export.report import Report

_STYLE = {
    Status.PASS: "green",
    Status.DIVERGENCE: "yellow",
    Status.ABSENT: "dim",
}
MOST_FINDINGS, LONGEST_DETAIL = 12, 300
HEADINGS = ("runtime", "version", "cases", "residual", "precision", "error", "x torch", "verdict")
NUMBERS = ("cases", "residual", "error", "x torch")


def print_report(report: "Report", console: "Console") -> None:
    """The table, what was found, and the last line."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(headline(report)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in NUMBERS else "left", no_wrap=True)
    for name, rows in by_runtime(report.results).items():
        status = verdict_of(rows)
        table.add_row(*cells(name, rows), Text(status.value, style=_style(status)))
    console.print(table)
    findings = findings_of(report.results)
    for finding in findings[:MOST_FINDINGS]:
        # what passed and still has something to say is a note
        word = "NOTE" if finding.passed else finding.status.value
        code = f" [{finding.code}]" if finding.code else ""
        line = printable(f" {finding.where}: {shortened(finding.detail)}{code}")
        console.print(Text.assemble((word, _style(finding.status)), line))
    if len(findings) > MOST_FINDINGS:
        console.print(f"... and {len(findings) - MOST_FINDINGS} more: --format json has them all")
    console.print(Text(last_line(report), style="bold green" if report.exit_code == 0 else "bold red"))


def headline(report: "Report") -> str:
    """What was verified."""
    return printable("   ".join(filter(None, (report.artifact, report.network, report.drawn))))


def cells(name: str, rows: Sequence[Result]) -> list[str]:
    """One runtime's row under the HEADINGS, without its verdict."""
    ran = any(row.status is not Status.ABSENT for row in rows)
    precisions = sorted({row.precision for row in rows if row.precision})
    errors = [row.max_abs for row in rows if row.max_abs is not None]
    return [
        printable(name),
        printable(rows[0].version),
        f"{sum(row.passed for row in rows)}/{len(rows)}" if ran else "",
        number(max((row.residual for row in rows if row.residual is not None), default=None)),
        printable(", ".join(precisions)),
        f"{median(errors):.1e}" if errors else "",  # of the cases: inputs of 1e30 would drown a maximum
        number(max((row.ratio for row in rows if row.ratio is not None), default=None)),
    ]


def number(value: float | None) -> str:
    """Two decimals, or an exponent where that would be long; empty for None."""
    if value is None:
        return ""
    if value >= sys.float_info.max:  # which stands for infinity in a report that was read back
        return "inf"
    return f"{value:.2f}" if value < 1e4 else f"{value:.1e}"


def shortened(text: str, limit: int = LONGEST_DETAIL) -> str:
    """The text, cut where it is too long for a line."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def _style(status: Status) -> str:
    return _STYLE.get(status, "bold red")
