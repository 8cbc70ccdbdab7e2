"""How much longer the form that ``--form auto`` takes runs than the fastest one, over a grid of networks and loads."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rnn_export import canary
from rnn_export.child import MEMORY_LIMIT, Child
from rnn_export.choice import USUAL_RUNTIME, rank_forms
from rnn_export.cost_model import CostTable, Load
from rnn_export.environments import interpreter_of
from rnn_export.forms import draw
from rnn_export.pipeline import DEFAULT_OPSET
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

WIDTHS, BATCHES, LENGTHS = (32, 96, 256, 512, 1024), (1, 4, 32), (8, 100, 1000)
LONGEST = 2_000_000  # T * B * H of a cell: a run of the largest takes a second, and each form runs some twenty times
FORMS = ("rnn", "blocked", "hoisted", "stacked", "scan")
CELLS = 60
ROUNDS, TURN = 7, 0.02  # of each form in turn, in seconds; the best turn counts: what else runs here only adds to it
GOOD, SHARE = 0.10, 0.95  # regret, and of how many cells: the aim


@dataclass(frozen=True)
class Trial:
    H: int
    B: int
    T: int
    nonlinearity: str
    threads: int


def cells() -> Iterator[Trial]:
    """Sixty of the grid, spread evenly over it by a fixed order; without those that would run for minutes."""
    grid = product(WIDTHS, BATCHES, LENGTHS, ("tanh", "relu"), (1, 2))
    possible = [Trial(*cell) for cell in grid if cell[0] * cell[1] * cell[2] <= LONGEST]
    order = np.random.default_rng(0).permutation(len(possible))[:CELLS]
    yield from (possible[number] for number in sorted(order))


def measure(table: CostTable) -> dict[str, Any]:
    """Every form in every cell, in turn; the choice is by the costs of the table."""
    return {"cells": [_measured(table, cell) for cell in cells()]}


def _measured(table: CostTable, cell: Trial) -> dict[str, Any]:
    spec, runtime = RNNSpec(cell.H, cell.H, 1, cell.nonlinearity), RUNTIMES.get(USUAL_RUNTIME)
    interpreter = interpreter_of(runtime)
    assert interpreter is not None
    weights = Weights.random(spec, 0)
    x = np.random.default_rng(0).standard_normal((cell.T, cell.B, cell.H)).astype(np.float32)
    inputs = {"input": x, "h_0": np.zeros((1, cell.B, cell.H), np.float32)}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Child(runtime, interpreter, 60.0, MEMORY_LIMIT, cell.threads) as child,
    ):
        child.wait_until_ready()
        canary.sing(child, runtime.reads)
        for form in FORMS:
            folder = Path(scratch) / form
            folder.mkdir()
            (folder / "model.onnx").write_bytes(draw(form, weights, DEFAULT_OPSET).SerializeToString())
            child.prepare(folder)
        for _ in range(ROUNDS):
            for number, form in enumerate(FORMS, 1):
                times[form].append(median(child.time(number, inputs, TURN).seconds) * 1e6)
    ranking = rank_forms(spec, {USUAL_RUNTIME: table}, Load(cell.B, cell.T, cell.threads))
    choice = next(form.name for form, _ in ranking if form.name in FORMS)
    return {**asdict(cell), "chosen": choice, "microseconds": {form: min(values) for form, values in times.items()}}


def regret(cell: Mapping[str, Any]) -> float:
    """How much longer the chosen form took than the fastest, as a share of that."""
    times = cell["microseconds"]
    return float(times[cell["chosen"]] / min(times.values()) - 1)


def _of_one_thread(found: Sequence[Mapping[str, Any]]) -> tuple[list[bool], list[bool]]:
    """Of the cells with one thread: which are good, and all of them."""
    good = [regret(cell) <= GOOD for cell in found if cell["threads"] == 1]
    return good, [True] * len(good)


def section(data: Mapping[str, Any]) -> str:
    found = data["cells"]
    regrets = [regret(cell) for cell in found]
    alone = " of ".join(str(sum(one)) for one in _of_one_thread(found))
    good = sum(value <= GOOD for value in regrets)
    fixed = {
        form: sum(cell["microseconds"][form] / min(cell["microseconds"].values()) - 1 <= GOOD for cell in found)
        for form in FORMS
    }
    lines = [
        f"Of {len(found)} cells the chosen form is within {GOOD:.0%} of the fastest in **{good}** "
        f"({good / len(found):.0%}; the aim is {SHARE:.0%}), with one thread in {alone}; the median regret is "
        f"{median(regrets):.1%}, the largest {max(regrets):.0%}. "
        "A fixed form would be within it in "
        + ", ".join(f"{number} (`{form}`)" for form, number in fixed.items())
        + ".",
        "",
        "| H | B | T | activation | threads | chosen | fastest | regret |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell, value in sorted(zip(found, regrets, strict=True), key=lambda pair: -pair[1])[:12]:
        fastest = min(cell["microseconds"], key=cell["microseconds"].__getitem__)
        size = " | ".join(str(cell[name]) for name in ("H", "B", "T", "nonlinearity", "threads"))
        lines.append(f"| {size} | `{cell['chosen']}` | `{fastest}` | {value:.1%} |")
    return "\n".join([*lines, "", "The twelve cells with the largest regret; the data file has all."])
