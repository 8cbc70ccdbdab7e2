"""One page with everything, in one file: nothing is fetched and nothing is run, in a browser or a mail's attachment."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rnn_export.findings import FINDINGS, Finding
from rnn_export.record import Record, Series
from rnn_export.report import Report
from rnn_export.reports import report_format
from rnn_export.reports._groups import GROUPS, OTHER, group_of
from rnn_export.reports._plots import BEYOND, error_plot, residual_plot
from rnn_export.result import NO_RUNTIMES, Result, Status
from rnn_export.summary import (
    Grouped,
    by_runtime,
    counts_of,
    findings_of,
    last_line,
    level_of,
    placement_words,
    printable,
    verdict_of,
)
from rnn_export.table import HEADINGS, NUMBERS, cells, number

TEMPLATES = Path(__file__).parent.parent / "data" / "report"
NOWHERE = ""  # the group of a row that ran no case
_TITLES = {0: "Passed", 1: "Failed", 4: "Failed", 5: "Nothing was checked"}


@report_format("html", suffix=".html", summary="one page", needs=("jinja2", "matplotlib"), extra="report")
def render(report: Report) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
    )
    pages.filters |= {"id": _id_of, "fragment": lambda text: quote(_id_of(text))}
    style = Markup((TEMPLATES / "style.css").read_text())  # noqa: S704  # our own file
    groups = by_runtime(report.results)
    anchors = _anchors(report.results)
    pairs = list(zip(report.results, anchors, strict=True))
    matrix = {name: _by_group(rows) for name, rows in groups.items() if name not in NO_RUNTIMES}
    page = pages.get_template("page.html").render(
        report=report,
        style=style,
        title=_TITLES[report.exit_code],
        sentence=re.sub(r"^(PASSED|FAILED:|NO RUNTIME WAS CHECKED:?) *", "", last_line(report)),
        counts=counts_of(report.results),
        headings=HEADINGS,
        numeric=NUMBERS,
        table={name: [*cells(name, rows)[1:], verdict_of(rows)] for name, rows in groups.items()},
        findings=list(_findings(report)),
        columns=[group for group in (*GROUPS, OTHER) if any(group in found for found in matrix.values())],
        nowhere=NOWHERE,
        matrix=matrix,
        plots=[
            (record, _plots(report, record, index, Markup))
            for index, record in enumerate(report.runtimes)
            if record.series
        ],
        placements=[(record, placement_words(record)) for record in report.runtimes if record.placement],
        precisions={name: sorted({row.precision for row in rows if row.precision}) for name, rows in groups.items()},
        cases={name: [pair for pair in pairs if pair[0].runtime == name] for name in groups},
        anchor=lambda row: anchors[report.results.index(row)],
        number=number,
        kind=lambda row: "pass" if row.passed else level_of(report, row),
        worst=_kind_of,
    )
    return re.sub(r"\s*\n\s*", "\n", page) + "\n"  # a third of it would be indentation


def _kind_of(status: Status) -> str:
    """The class of a verdict's colour."""
    kinds = {Status.PASS: "pass", Status.DIVERGENCE: "warning", Status.ABSENT: "note"}
    return kinds.get(status, "error")


def _anchors(results: tuple[Result, ...]) -> list[str]:
    """A name for every row, such as onnxruntime-cpu/T=5-B=3, that no other row has."""
    taken: Counter[str] = Counter()
    names = []
    for row in results:
        name = _id_of(f"{row.runtime}/{row.case or row.stage.value}")
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name}/{taken[name]}")
    return names


def _id_of(text: str) -> str:
    """The text as a name inside the page, which has no spaces."""
    return "-".join(printable(text).split())


def _findings(report: Report) -> Iterator[tuple[Grouped, Finding | None, bool]]:
    """Each with what its code means, and whether that is said for the first time."""
    said: set[str] = set()
    for finding in findings_of(report.results):
        yield finding, FINDINGS.get(finding.code), finding.code not in said
        said.add(finding.code)


def _by_group(rows: list[Result]) -> Mapping[str, tuple[Status, int, int]]:
    """Group -> the verdict on it, how many of its rows passed, and how many there are."""
    groups: dict[str, list[Result]] = {}
    for row in rows:
        groups.setdefault(group_of(row.case) if row.case else NOWHERE, []).append(row)
    return {name: (verdict_of(found), sum(row.passed for row in found), len(found)) for name, found in groups.items()}


def _plots(report: Report, record: Record, index: int, markup: Any) -> Iterator[tuple[str, str, Any]]:
    """(what is drawn, the same in words for who does not see it, the drawing)."""
    series = record.series
    assert series is not None
    rows = (row for row in report.results if (row.runtime, row.case) == (record.name, series.case))
    first_wrong = next((row.step for row in rows if not row.passed), None)
    if series.residual is not None:
        words = f"{_largest(series, series.residual)}; up to {series.threshold:g} a step is the recurrence's"
        words += f"; the first wrong step is {first_wrong}" if first_wrong is not None else ""
        yield "step residual", words, markup(residual_plot(series, first_wrong, f"residual {index}"))
    if series.error is not None and min(series.error) < BEYOND:  # of nothing but infinity there is no curve
        yield "error against float64", _largest(series, series.error), markup(error_plot(series, f"error {index}"))


def _largest(series: Series, values: tuple[float, ...]) -> str:
    largest = max(values)
    start = values.index(largest) * series.stride
    end = min(start + series.stride, series.length) - 1
    where = f"at step {start}" if start == end else f"in steps {start} to {end}"
    return f"largest {'beyond measure' if largest >= BEYOND else f'{largest:.3g}'}, {where} of {series.length}"
