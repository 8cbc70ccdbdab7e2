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
    for label, place in (("load: requests/s", 0), ("load: p50", 1), ("load: p99", 2), ("load: mixed up", 4)):
        numbers = [_load_number(rows, place) for rows in by_endpoint.values()]
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


def _load_number(rows: Sequence[Result], place: int) -> str:
    """One of the numbers of the load run."""
    said = [row.detail for row in rows if row.case.startswith("load")]
    numbers = re.split(r", (?=[\dp])", said[0].partition(";")[0]) if said else []
    return re.sub(r" requests/s|p\d\d | mixed up", "", numbers[place]) if len(numbers) > place else ""


def _style(rows: Sequence[Result]) -> str:
    if not rows:
        return ""
    return {Status.PASS: "green", Status.DIVERGENCE: "yellow"}.get(verdict_of(rows), "bold red")
