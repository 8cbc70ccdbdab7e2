"""A benchmark as tables that a person likes to read: the ratios first, because they are what another machine shares."""

import sys
from typing import TYPE_CHECKING

from rnn_export.benchmark.score import Benchmark, Point, Row
from rnn_export.benchmark.spread import Spread
from rnn_export.forms import FORMS
from rnn_export.result import Status
from rnn_export.summary import printable
from rnn_export.table import shortened

if TYPE_CHECKING:
    from rich.console import Console

HEADINGS = (
    "row",
    "x torch",
    "95 %",
    "x rnn operator",
    "us/step",
    "quartiles",
    "sequences/s",
    "of limit",
    "memory",
    "load",
    "off torch",
    "version",
)
NUMBERS = HEADINGS[1:-1]
MEBIBYTE, KIBIBYTE, GIGA = 2**20, 2**10, 1e9


def print_benchmark(benchmark: Benchmark, console: "Console") -> None:
    """A table of every point, below it what did not run, the limit, and who is the fastest."""
    from rich.table import Table
    from rich.text import Text

    for index, point in enumerate(benchmark.points):
        console.print("\n" if index else "", end="")
        console.print(Text(headline(point, benchmark.threads)))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in HEADINGS:
            table.add_column(heading, justify="right" if heading in NUMBERS else "left", no_wrap=True)
        for row in point.rows:
            if row.status is Status.PASS:
                table.add_row(*cells(row))
        console.print(table)
        for status, words in failures(point):
            style = "dim" if status is Status.ABSENT else "bold red"
            console.print(Text.assemble((status.value, style), f" {words}"))
        console.print(Text(limit_line(point)))
        console.print(Text(fastest_line(point), style="bold"))


def headline(point: Point, threads: int) -> str:
    """Which network, and under which load."""
    used = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{printable(point.network)}   T={point.length} B={point.batch}   {used}"


def cells(row: Row) -> list[str]:
    """A row that ran, under the HEADINGS."""
    return [
        printable(row.label),
        _median(row.ratio),
        between(row.ratio),
        _median(row.operator_ratio),
        _median(row.microseconds),
        between(row.microseconds),
        "" if row.sequences_per_second is None else f"{row.sequences_per_second:,.0f}",
        "" if row.share is None else f"{row.share:.0%}",
        "" if row.peak_bytes is None else f"{row.peak_bytes / MEBIBYTE:.0f} MiB",
        "" if row.load_seconds is None else f"{significant(row.load_seconds * 1e3)} ms",
        "" if row.difference is None else f"{row.difference:.0e}",
        printable(row.version),
    ]


def failures(point: Point) -> list[tuple[Status, str]]:
    """The rows that did not run, and why; those of one runtime with one reason in one line."""
    groups: dict[tuple[str, Status, str], list[Row]] = {}
    for row in point.rows:
        if row.status is not Status.PASS:
            groups.setdefault((row.runtime, row.status, row.detail), []).append(row)
    said = []
    for (runtime, status, detail), rows in groups.items():
        forms = ", ".join(row.form for row in rows if row.form)
        said.append((status, printable(shortened(f"{forms + ' on ' if forms else ''}{runtime}: {detail}"))))
    return said


def limit_line(point: Point) -> str:
    """What the machine can do at best, in words."""
    limit = point.limit
    if limit is None:
        return printable(f"limit: not measured: {point.limit_problem}")
    said = (
        f"limit: {significant(limit.seconds * 1e6)} us/step, from {limit.bytes_per_second / GIGA:.0f} GB/s read "
        f"and {limit.operations_per_second / GIGA:.0f} GFLOP/s multiplied, the most that numpy's BLAS was seen to do"
    )
    beyond = [row.label for row in point.rows if row.share is not None and row.share > 1]
    return said + (f"; {', '.join(map(printable, beyond))} went beyond" if beyond else "")


def fastest_line(point: Point) -> str:
    """Which row is the fastest, and how fast: by its ratio to torch round by round, where torch ran."""
    others = {form.name for form in FORMS if form.quantised is not None}  # they compute another network
    ran = [row for row in point.rows if row.microseconds is not None and row.form not in others]
    if not ran:
        return "nothing ran"
    best = max(ran, key=lambda row: (0.0 if row.ratio is None else row.ratio.median, -_microseconds(row)))
    of_torch = "" if best.ratio is None else f": {significant(best.ratio.median)} times as fast as torch"
    return f"fastest: {printable(best.label)}{of_torch}"


def _microseconds(row: Row) -> float:
    return 0.0 if row.microseconds is None else row.microseconds.median


def _median(spread: Spread | None) -> str:
    return "" if spread is None else significant(spread.median)


def between(spread: Spread | None) -> str:
    """The ends of a spread."""
    return "" if spread is None else f"{significant(spread.low)}–{significant(spread.high)}"


def significant(value: float) -> str:
    """Three digits."""
    if value >= sys.float_info.max:  # which stands for infinity in a file that was read back
        return "inf"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
