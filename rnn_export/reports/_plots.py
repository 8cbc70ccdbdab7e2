"""One case over time as two drawings in SVG, for a page whose colours and fonts they take.

matplotlib draws with the colours below, and each is then replaced by a variable of the page's style. The same series
gives the same bytes: no date, no random names, nothing of the user's own settings.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from rnn_export.record import Series

_COLOURS = {"#010101": "currentColor", "#020202": "var(--muted)", "#030303": "var(--line)"}
_COLOURS |= {"#040404": "var(--accent)", "#050505": "var(--bad)"}
_INK, _MUTED, _LINE, _ACCENT, _BAD = _COLOURS
_SIZE = (4.6, 2.2)  # inches; the page scales it
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.size": 8.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": _LINE,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "text.color": _INK,
    "lines.linewidth": 0.9,
}
LINEAR_UP_TO = 8.0  # of a residual: twice the threshold; above, a linear axis would show one spike
LINEAR_WITHIN = 30.0  # of errors: the largest over the smallest; a logarithmic axis would have one label
BEYOND = 1e30  # not a number that was measured, but one that stands for infinity or is on its way there


def residual_plot(series: Series, first_wrong: int | None, name: str) -> str:
    """The largest residual of every step, the threshold, and where the first wrong step is.

    Args:
        series: what is drawn.
        first_wrong: the step, if there is one.
        name: of the drawing, which no other on its page has: what is named inside of it is named after it.
    """
    assert series.residual is not None
    values = drawable(series.residual, at_least=series.threshold)
    logarithmic = max(values) > LINEAR_UP_TO
    floor = 1e-2 if logarithmic else 0.0

    def draw(axes: Any) -> None:
        axes.axhline(series.threshold, color=_BAD, linestyle=(0, (4, 3)))
        if first_wrong is not None:
            axes.axvline(first_wrong, color=_BAD, linewidth=0.6)
        _draw(axes, series, [max(value, floor) for value in values])
        axes.set_yscale("log" if logarithmic else "linear")
        if not logarithmic:
            axes.set_ylim(0, max(1.25 * series.threshold, 1.1 * max(values)))

    return _svg(draw, name)


def error_plot(series: Series, name: str) -> str:
    """The largest error of every step's output against float64; the name as in ``residual_plot``."""
    assert series.error is not None
    values = drawable(series.error, at_least=0.0)
    smallest = min((value for value in values if value), default=None)

    def draw(axes: Any) -> None:
        if smallest is None or max(values) <= LINEAR_WITHIN * smallest:
            _draw(axes, series, values)
            axes.set_ylim(0, 1.1 * max(values) or 1.0)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
            axes.yaxis.offsetText.set_color(_MUTED)
        else:
            _draw(axes, series, [max(value, smallest) for value in values])
            axes.set_yscale("log")

    return _svg(draw, name)


def drawable(values: Sequence[float], at_least: float) -> list[float]:
    """The values, with what is beyond all measure at the upper edge."""
    top = 10 * max([at_least, *(value for value in values if value < BEYOND)])
    return [min(value, top) if value < BEYOND else top or 1.0 for value in values]


def _draw(axes: Any, series: Series, values: list[float]) -> None:
    steps = [index * series.stride for index in range(len(values))]
    axes.plot(steps, values, color=_ACCENT, marker="." if len(values) < 3 else None)
    axes.set_xlim(0, max(1, series.length - 1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("step", color=_MUTED)


def _svg(draw: Callable[[Any], None], name: str) -> str:
    import io

    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update({**_SETTINGS, "svg.hashsalt": name})
        figure = Figure(figsize=_SIZE)
        axes = figure.add_axes((0.12, 0.19, 0.86, 0.71))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=_LINE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(length=2.5)
        draw(axes)
        axes.minorticks_off()
        stream = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _as_part_of_a_page(stream.getvalue())


def _as_part_of_a_page(svg: str) -> str:
    """Without the prologue and the names that nothing refers to, in the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r" ?font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", svg)
    svg = re.sub(r" ?\n *", "\n", svg)
    referred = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in referred else "", svg)
    return re.sub(r'(<svg [^>]*?) (?:height="[^"]*" )?width="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
