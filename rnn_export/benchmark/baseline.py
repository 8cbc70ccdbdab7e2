"""What became slower, against torch, than in an older benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass

from rnn_export.benchmark.score import REFERENCE, Benchmark, Point, Row
from rnn_export.benchmark.score_table import between, significant
from rnn_export.errors import UsageError
from rnn_export.result import Status
from rnn_export.summary import printable


@dataclass(frozen=True)
class Comparison:
    """Two benchmarks beside each other.

    Attributes:
        regressions: every row that became slower or does not run any more, in words.
        notes: what else a reader should know, such as another processor.
        compared: how many rows both have.
    """

    regressions: tuple[str, ...]
    notes: tuple[str, ...]
    compared: int


def compare(now: Benchmark, before: Benchmark, tolerance: float) -> Comparison:
    """Hold every row's ratio to torch against that of the same row of an older benchmark.

    A row became slower where its ratio is less by more than the tolerance, and the intervals of 95 % of the two do not
    meet: neither a small change nor a noisy one counts.

    Args:
        now: the new one.
        before: the older one.
        tolerance: a share of the older ratio, such as 0.15.

    Raises:
        UsageError: they have no row in common, or ran with other numbers of threads.
    """
    check_comparable(before, now.threads)
    pairs = list(_pairs(now, before))
    if not pairs:
        raise UsageError(
            "the baseline has no row of this network, length, batch, form and runtime", "Make a new baseline"
        )
    found = [_regression(point, row, old, tolerance) for point, row, old in pairs]
    notes = [] if now.environment.cpu == before.environment.cpu else [_other_processor(now, before)]
    notes += _missing(now, before)
    return Comparison(tuple(filter(None, found)), tuple(notes), len(pairs))


def _missing(now: Benchmark, before: Benchmark) -> list[str]:
    """Rows that ran before at a point that was measured again, and are not there now."""
    again = {_place(point): {row.label for row in point.rows} for point in now.points}
    gone = [
        printable(f"{row.label} at T={point.length} B={point.batch}")
        for point in before.points
        for row in point.rows
        if row.ratio is not None and row.label not in again.get(_place(point), {row.label})
    ]
    return [f"the baseline has rows that were not measured now: {', '.join(gone)}"] if gone else []


def check_comparable(before: Benchmark, threads: int) -> None:
    """Raises UsageError where an older benchmark ran with another number of threads."""
    if before.threads != threads:
        raise UsageError(
            f"the baseline was measured with {before.threads} threads, this with {threads}",
            f"Measure with --threads {before.threads}, or make a new baseline",
        )


def _pairs(now: Benchmark, before: Benchmark) -> Iterator[tuple[Point, Row, Row]]:
    """The rows that ran before and are there again, each with its point."""
    known = {(*_place(point), row.label): row for point in before.points for row in point.rows}
    for point in now.points:
        for row in point.rows:
            old = known.get((*_place(point), row.label))
            if old is not None and old.ratio is not None and row.label != REFERENCE:
                yield point, row, old


def _place(point: Point) -> tuple[str, int, int]:
    return point.network, point.length, point.batch


def _regression(point: Point, row: Row, old: Row, tolerance: float) -> str:
    """What became worse, in words; empty where nothing did."""
    assert old.ratio is not None  # it ran, or there would be no pair
    where = printable(f"{point.network} T={point.length} B={point.batch}: {row.label}")
    if row.ratio is None and row.status is Status.PASS:
        return f"{where} has nothing to be compared with: torch did not run"
    if row.ratio is None:
        return f"{where} ran before, and now: {row.status.value} {printable(row.detail)}"
    slower = row.ratio.median < (1 - tolerance) * old.ratio.median
    if not slower or row.ratio.high >= old.ratio.low:
        return ""
    loss = 1 - row.ratio.median / old.ratio.median
    return (
        f"{where} is {significant(row.ratio.median)} times as fast as torch ({between(row.ratio)}), and was "
        f"{significant(old.ratio.median)} times ({between(old.ratio)}): {loss:.0%} less"
    )


def _other_processor(now: Benchmark, before: Benchmark) -> str:
    cpus = (printable(before.environment.cpu), printable(now.environment.cpu))
    return f"the baseline is of another processor, {cpus[0]}, this is {cpus[1]}: ratios differ between them"
