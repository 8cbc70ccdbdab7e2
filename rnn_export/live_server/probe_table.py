"""A probe as a table: what was asked, and what came of it at every endpoint."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    "step residual of its answers": r"(?!bad |concurrent|sequences|load|golden|ready|metadata).",
    "bad requests refused": r"bad request",
    "concurrent = alone": r"concurrent",
    "sequences apart, chunked = whole": r"sequences",
    "load": r"load",
}
LOAD = {
    "load: requests/s": r"([\d,]+) requests/s",
    "load: p50": r"p50 ([\d.]+ ms)",
    "load: p99": r"p99 ([\d.]+ ms)",
    "load: requests per run": r"([\d.]+) requests per run",
    "load: mixed up": r"(\d+) mixed up",
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
    for label, pattern in LOAD.items():
        numbers = [_load_number(rows, pattern) for rows in by_endpoint.values()]
        if any(numbers):
            table.add_row(label, *numbers)
    console.print(table)
    for finding in findings_of([row for row in report.results if not row.passed]):
        code = f" [{finding.code}]" if finding.code else ""
        line = printable(f" {finding.where}: {shortened(finding.detail)}{code}")
        console.print(Text.assemble((finding.status.value, _style(finding.rows)), line))
    console.print(Text(last_line(report), style="bold green" if report.exit_code == 0 else "bold red"))


def _cell(rows: Sequence[Result]) -> str:
    """The verdict, of how many rows, and the largest residual."""
    if not rows:
        return ""
    residual = max((row.residual for row in rows if row.residual is not None), default=None)
    many = f" {sum(row.passed for row in rows)}/{len(rows)}" if len(rows) > 1 else ""
    return f"{verdict_of(rows).value}{many}" + (f", residual {number(residual)}" if residual is not None else "")


def _load_number(rows: Sequence[Result], pattern: str) -> str:
    """One of the numbers that the row of the load run says."""
    found = [match[1] for row in rows if row.case.startswith("load") and (match := re.search(pattern, row.detail))]
    return found[0] if found else ""


def _style(rows: Sequence[Result]) -> str:
    if not rows:
        return ""
    return {Status.PASS: "green", Status.DIVERGENCE: "yellow"}.get(verdict_of(rows), "bold red")
