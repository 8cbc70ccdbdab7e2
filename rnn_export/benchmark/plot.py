"""Microseconds per step over H and over B, on logarithmic axes, with the machine's limit as a dashed line."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnn_export.benchmark.score import Benchmark, Point
from rnn_export.errors import UsageError
from rnn_export.text_file import check_place, write_bytes

SUFFIXES = (".png", ".svg")
PANEL = (4.2, 3.4)  # inches of one drawing: axes with two decades and their labels
LEGEND = 2.6  # inches beside them, the width of the longest label
DOTS = 150  # per inch of a PNG: text is sharp, a grid of six drawings below a megabyte
SETTINGS: dict[str, Any] = {
    "font.size": 8.5,
    "svg.hashsalt": "rnn-export",  # the same benchmark gives the same bytes
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLOURS = 10  # of matplotlib's cycle; the rows after them have another marker
MARKERS = "os^D"
MOST_COLUMNS = 3  # of drawings: a page's width


@dataclass(frozen=True)
class Panel:
    """One drawing: H or B along the axis, and the points on it."""

    title: str
    axis: str
    points: tuple[Point, ...]


def check_plot(file: Path) -> None:
    """Find out before long work whether a plot could be drawn and written.

    Raises:
        UsageError: another suffix than png and svg, or matplotlib is not installed.
        OutputError: the place cannot be written.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{file.name} is no name of a plot", f"Choose one of {', '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise UsageError("a plot needs matplotlib, which is not installed", "Run: pip install 'rnn-export[report]'")
    check_place(file)


def write_plot(benchmark: Benchmark, file: Path) -> None:
    """Draw a benchmark, for each B over H and for each H over B, and put the file in place as a whole.

    Raises:
        OutputError: it cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = list(_rows_of_panels(benchmark.points))
    columns = max(map(len, rows))
    ran = [row.label for point in benchmark.points for row in point.rows if row.microseconds is not None]
    labels = list(dict.fromkeys(ran))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update(SETTINGS)
        figure = Figure(figsize=(columns * PANEL[0] + LEGEND, len(rows) * PANEL[1]), layout="constrained")
        first = benchmark.points[0]
        figure.suptitle(f"T = {first.length}, {benchmark.threads} thread{'s' * (benchmark.threads > 1)}")
        for number, row in enumerate(rows):
            for column, panel in enumerate(row):
                _draw(figure.add_subplot(len(rows), columns, number * columns + column + 1), panel, labels)
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False)
        stream = io.BytesIO()
        kind = file.suffix.lower().removeprefix(".")
        nothing = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=DOTS, metadata=nothing)
    write_bytes(file, stream.getvalue())


def _rows_of_panels(points: Sequence[Point]) -> Iterator[list[Panel]]:
    """What has one value only is no axis, unless nothing else is."""
    batches = list(dict.fromkeys(point.batch for point in points))
    widths = list(dict.fromkeys(point.hidden_size for point in points))
    over_H = [Panel(f"B = {B}", "H", tuple(point for point in points if point.batch == B)) for B in batches]
    over_B = [Panel(f"H = {H}", "B", tuple(point for point in points if point.hidden_size == H)) for H in widths]
    for panels, is_axis in ((over_H, len(widths) > 1 or len(batches) == 1), (over_B, len(batches) > 1)):
        for start in range(0, len(panels) if is_axis else 0, MOST_COLUMNS):
            yield panels[start : start + MOST_COLUMNS]


def _draw(axes: Any, panel: Panel, labels: Sequence[str]) -> None:
    def place(point: Point) -> int:
        return point.hidden_size if panel.axis == "H" else point.batch

    points = sorted(panel.points, key=place)
    for index, label in enumerate(labels):  # each in every drawing, so that the first one has the legend's of all
        times = [(place(point), _microseconds(point, label)) for point in points]
        looks = {"color": f"C{index % COLOURS}", "marker": MARKERS[index // COLOURS % len(MARKERS)]}
        axes.plot(*_columns(times), markersize=4, linewidth=1.2, label=label, **looks)
    limits = [(place(point), 1e6 * point.limit.seconds) for point in points if point.limit is not None]
    axes.plot(*_columns(limits), color="black", linestyle="--", marker="_", label="limit of this machine")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({place(point) for point in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axes.yaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(title=panel.title, xlabel=panel.axis, ylabel="microseconds per step")
    axes.grid(alpha=0.3)


def _columns(pairs: Sequence[tuple[int, float]] | Sequence[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    kept = [(x, y) for x, y in pairs if y is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def _microseconds(point: Point, label: str) -> float | None:
    for row in point.rows:
        if row.label == label and row.microseconds is not None:
            return row.microseconds.median
    return None
