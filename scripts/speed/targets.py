"""The form that ``--form auto`` takes, beside torch, the RNN operator, OpenVINO, int8 and the machine's own limit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import geometric_mean
from typing import Any

from rnn_export.benchmark.grid import measure as measure_grid
from rnn_export.benchmark.point import Terms
from rnn_export.benchmark.score import OPERATOR, REFERENCE, Point, Row
from rnn_export.checkpoint import load_checkpoint
from rnn_export.choice import USUAL_RUNTIME, rank_forms
from rnn_export.cost_model import CostTable, Load
from rnn_export.documents import from_document, to_document
from rnn_export.spec import RNNSpec

# (H, T, B), with I = H: streams and batches, from what is overhead alone to what is products alone
CELLS = (
    (32, 128, 1),
    (64, 128, 1),
    (128, 128, 1),
    (256, 128, 1),
    (512, 128, 1),
    (1024, 64, 1),
    (64, 128, 32),
    (128, 128, 32),
    (256, 128, 32),
    (512, 64, 32),
)
FORMS = ("rnn", "blocked", "hoisted", "stacked", "scan", "int8")
OPENVINO = "rnn on openvino"
TERMS = Terms(rounds=11, seconds=0.15)


def measure(table: CostTable) -> dict[str, Any]:
    """Every cell, one after the other; within a cell all rows in turn. The choice is by the costs of the table."""
    return {"cells": [_cell(table, H, T, B) for H, T, B in CELLS]}


def _cell(table: CostTable, H: int, T: int, B: int) -> dict[str, Any]:
    benchmark = measure_grid(load_checkpoint(f"rnn:{H},{H}"), replace(TERMS, length=T), forms=FORMS, batches=(B,))
    (point,) = benchmark.points
    return {"H": H, "T": T, "B": B, "chosen": chosen(table, H, T, B), "point": to_document(point)}


def chosen(table: CostTable, H: int, T: int, B: int) -> str:
    """What ``--form auto`` takes for the load."""
    return rank_forms(RNNSpec(H, H), {USUAL_RUNTIME: table}, Load(B, T))[0][0].name


def section(data: Mapping[str, Any]) -> str:
    """The table of the cells, and the geometric means."""
    cells = [Rows(cell) for cell in data["cells"]]
    lines = [
        "| H = I, T, B | `auto` | x torch | x operator | x OpenVINO | of the limit | us per step | torch | operator | "
        "OpenVINO | `int8` | `int8` x torch |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(cell.line for cell in cells),
        "",
        "Geometric means of `auto`: "
        + ", ".join(f"**{mean:.2f} times {name}**" for name, mean in means(cells).items())
        + ".",
        f"The fastest form of each cell, known afterwards, has {geometric_mean(cell.best for cell in cells):.2f} times "
        "torch.",
    ]
    return "\n".join(lines)


def means(cells: "Sequence[Rows]") -> dict[str, float]:
    """Name of the other side -> how many times as fast ``auto`` is."""
    others = {"torch": REFERENCE, "the RNN operator": OPERATOR, "OpenVINO's RNN": OPENVINO}
    found = {name: [cell.against(label) for cell in cells] for name, label in others.items()}
    return {name: geometric_mean(ratios) for name, ratios in found.items() if all(ratios)}


class Rows:
    """One load: its rows by label, and the one that was chosen."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        point = from_document(Point, data["point"])
        self.rows = {row.label: row for row in point.rows if row.microseconds is not None}
        self.chosen = data["chosen"]
        self.size = f"{data['H']}, {data['T']}, {data['B']}"

    @property
    def own(self) -> Row:
        return self.rows[f"{self.chosen} on {USUAL_RUNTIME}"]

    @property
    def best(self) -> float:
        """Of the forms that compute this very network, how many times as fast as torch the fastest is."""
        exact = [row for row in self.rows.values() if row.runtime == USUAL_RUNTIME and row.form != "int8"]
        return max(row.ratio.median for row in exact if row.ratio is not None)

    def against(self, label: str) -> float:
        """How many times as fast the chosen form is; 0 where the other did not run."""
        other, own = self.rows.get(label), self.own
        if other is None or other.ratio is None or own.ratio is None:
            return 0.0
        return own.ratio.median / other.ratio.median

    @property
    def line(self) -> str:
        def times(label: str) -> str:
            return f"{ratio:.2f}" if (ratio := self.against(label)) else ""

        def step(label: str) -> str:
            row = self.rows.get(label)
            return "" if row is None or row.microseconds is None else f"{row.microseconds.median:.3g}"

        int8 = self.rows.get(f"int8 on {USUAL_RUNTIME}")
        share = "" if self.own.share is None else f"{self.own.share:.0%}"
        cells = [
            self.size,
            f"`{self.chosen}`",
            *(f"**{times(label)}**" for label in (REFERENCE, OPERATOR, OPENVINO)),
            share,
        ]
        cells += [step(f"{self.chosen} on {USUAL_RUNTIME}"), step(REFERENCE), step(OPERATOR), step(OPENVINO)]
        cells += [step(f"int8 on {USUAL_RUNTIME}"), f"{int8.ratio.median:.2f}" if int8 and int8.ratio else ""]
        return f"| {' | '.join(cells)} |"
