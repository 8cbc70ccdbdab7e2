"""Two directions, and four layers, in one Scan, beside separate Scans of the same network."""

from collections.abc import Mapping
from typing import Any

from rnn_export.benchmark.grid import measure as measure_grid
from rnn_export.benchmark.point import Terms
from rnn_export.benchmark.score import Point
from rnn_export.checkpoint import load_checkpoint
from rnn_export.documents import from_document, to_document

RUNTIME = "onnxruntime-cpu"
WIDTHS = (32, 64, 128)
NETWORKS = {"two directions": "bidirectional", "four layers": "layers=4"}
FORMS = ("rnn", "scan", "hoisted", "blocked", "stacked")
# In one Scan: of two directions both forms have them so, of layers stacked alone
SHARED = {"two directions": ("blocked", "stacked"), "four layers": ("stacked",)}
TERMS = Terms(rounds=9, seconds=0.1)


def measure() -> dict[str, Any]:
    found = {}
    for name, options in NETWORKS.items():
        for H in WIDTHS:
            network = load_checkpoint(f"rnn:{H},{H},{options}")
            (point,) = measure_grid(network, TERMS, forms=FORMS, runtimes=(RUNTIME,)).points
            found[f"{name}, H = {H}"] = to_document(point)
    return found


def section(data: Mapping[str, Any]) -> str:
    lines = [
        "| network | RNN operator | separate Scans: `scan` | `hoisted` | in one Scan: `blocked` | `stacked` | "
        "one Scan, times `scan` | times `hoisted` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, document in data.items():
        point = from_document(Point, document)
        steps = {row.form: row.microseconds.median for row in point.rows if row.form and row.microseconds is not None}
        shared = SHARED[name.partition(",")[0]]
        one = min(steps[form] for form in shared)
        cells = [f"{steps[form]:.3g}" for form in ("rnn", "scan", "hoisted")]
        cells += [f"{steps['blocked']:.3g}" if "blocked" in shared else f"({steps['blocked']:.3g}, four Scans)"]
        cells += [f"{steps['stacked']:.3g}", f"**{steps['scan'] / one:.2f}**", f"**{steps['hoisted'] / one:.2f}**"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
