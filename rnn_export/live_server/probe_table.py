"""A probe as a table: what was asked, and what came of it at every endpoint."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rnn_export.record import Load
from rnn_export.result import Result, Status
from rnn_export.summary import by_runtime, findings_of, last_line, printable, verdict_of
from rnn_export.table import headline, number, shortened

if TYPE_CHECKING:
    from rich.console import Console

    from rnn_export.report import Report

GROUPS = {  # what stands in the table -> the cases that it sums up
    "ready": r"ready$",
    "metadata = manifest": r"metadata$",
    "golden requests": r"golden ",
    "every case": r"(?!bad |concurrent|sequences|load|golden|ready|metadata).",
    "bad requests refused": r"bad request",
    "concurrent = alone": r"concurrent",
    "sequences apart, chunked = whole": r"sequences",
    "load": r"load",
}
LOAD: dict[str, Callable[[Load], str]] = {
    "load: requests/s": lambda load: f"{load.requests_per_second:,.0f}",
    "load: p50": lambda load: f"{load.p50_ms:.1f} ms",
    "load: p99": lambda load: f"{load.p99_ms:.1f} ms",
    "load: requests per run": lambda load: "" if load.requests_per_run is None else f"{load.requests_per_run:.1f}",
    "load: mixed up": lambda load: str(load.mixed_up),
}


def print_probe(report: "Report", console: "Console") -> None:
    """The table, what was found, and the last line."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(headline(report)))
    by_endpoint = {name: rows for name, rows in by_runtime(report.results).items() if name != "file"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True)
    for name in by_endpoint:
        table.add_column(name, no_wrap=True)
    for group, pattern in GROUPS.items():
        cells = [[row for row in rows if re.match(pattern, row.case)] for rows in by_endpoint.values()]
        if any(cells):
            table.add_row(group, *(Text(_cell(rows), style=_style(rows)) for rows in cells))
    loads = {record.name: record.load for record in report.runtimes}
    for label, said in LOAD.items():
        numbers = [said(load) if (load := loads.get(name)) else "" for name in by_endpoint]
        if any(numbers):
            table.add_row(label, *numbers)
    console.print(table)
    for finding in findings_of([row for row in report.results if not row.passed]):
        code = f" [{finding.code}]" if finding.code else ""
        line = printable(f" {finding.where}: {shortened(finding.detail)}{code}")
        console.print(Text.assemble((finding.status.value, _style(finding.rows)), line))
    console.print(Text(last_line(report), style="bold green" if report.exit_code == 0 else "bold red"))


def _cell(rows: Sequence[Result]) -> str:
    """The verdict, of how many rows, and the largest residual; or that answers were held against torch's error."""
    if not rows:
        return ""
    many = f" {sum(row.passed for row in rows)}/{len(rows)}" if len(rows) > 1 else ""
    residuals = [row.residual for row in rows if row.residual is not None]
    judged = f", residual {number(max(residuals))}" if residuals else ""
    if not residuals and any(row.max_abs is not None for row in rows):
        judged = ", end to end"
    return f"{verdict_of(rows).value}{many}{judged}"


def _style(rows: Sequence[Result]) -> str:
    if not rows:
        return ""
    return {Status.PASS: "green", Status.DIVERGENCE: "yellow"}.get(verdict_of(rows), "bold red")
