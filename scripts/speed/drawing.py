"""An nn.RNN made into an ONNX file: by drawing it, and by torch's exporter, which runs it to see what it does."""

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rnn_export.forms import FORMS, draw
from rnn_export.module import from_torch
from rnn_export.pipeline import DEFAULT_OPSET, export
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

WIDTH, ROWS = 64, 3
LENGTHS = (8, 32, 128)
LAYERS = (1, 2, 4, 8, 16)
BY_TORCH = "module"  # a form that torch's exporter draws
ROUNDS = 3  # of torch's exporter, some seconds each
REPEATS = 5  # of ours, beside each of those
TIMES = 100  # the bound at the largest of LENGTHS
SHOWN = ("scan", "rnn")  # the default form, and ONNX's own operator


def measure() -> dict[str, Any]:
    """Seconds by T, of torch's exporter and of every form of dynamic length beside it; and of ours by L."""
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    module = nn.RNN(WIDTH, WIDTH).eval()
    weights = from_torch(module)
    forms = [form.name for form in FORMS if form.length == "dynamic" and form.name != BY_TORCH]
    found: dict[str, Any] = {"lengths": {}, "layers": {}}
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        place = Path(scratch)
        _by_torch(module, LENGTHS[0], place)  # what the first export imports
        rounds = [{T: _side_by_side(module, weights, forms, T, place) for T in LENGTHS} for _ in range(ROUNDS)]
        found["lengths"] = {str(T): _medians([each[T] for each in rounds]) for T in LENGTHS}
        for L in LAYERS:
            deep = Weights.random(RNNSpec(WIDTH, WIDTH, L), 0)
            found["layers"][str(L)] = {form: _ours(deep, form, place) for form in SHOWN}
    return found


def _side_by_side(module: nn.RNN, weights: Weights, forms: list[str], T: int, place: Path) -> dict[str, Any]:
    seconds, nodes = _by_torch(module, T, place)
    return {"torch": {"seconds": seconds, "nodes": nodes}, **{form: _ours(weights, form, place) for form in forms}}


def _by_torch(module: nn.RNN, T: int, place: Path) -> tuple[float, int]:
    example = (torch.zeros(T, ROWS, WIDTH), torch.zeros(1, ROWS, WIDTH))
    names = {"input_names": ["input", "h_0"], "output_names": ["output", "h_n"]}
    with warnings.catch_warnings(), torch.no_grad():  # the exporter's own, about its own future
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        program = torch.onnx.export(module, example, place / "torch.onnx", dynamo=True, verbose=False, **names)
        seconds = time.perf_counter() - started
    assert program is not None
    return seconds, len(program.model.graph)


def _ours(weights: Weights, form: str, place: Path) -> dict[str, float]:
    """Seconds to draw the graph, and to draw, check, write and seal the whole artifact."""
    return {
        "draw": _least(lambda: draw(form, weights, DEFAULT_OPSET)),
        "export": _least(lambda: export(weights, place / form, form=form)),
    }


def _least(run: Callable[[], object]) -> float:
    durations = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        durations.append(time.perf_counter() - started)
    return min(durations)


def _medians(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of every figure; and of every form the ratio to torch's seconds of the same round."""
    found: dict[str, dict[str, float]] = {}
    for name, figures in rounds[0].items():
        found[name] = {key: statistics.median(each[name][key] for each in rounds) for key in figures}
        if name != "torch":
            ratios = [each["torch"]["seconds"] / each[name]["export"] for each in rounds]
            found[name]["times"] = statistics.median(ratios)
    return found


def section(data: Mapping[str, Any]) -> str:
    forms = [name for name in next(iter(data["lengths"].values())) if name != "torch"]
    lines = [
        f"`torch.onnx.export(nn.RNN({WIDTH}, {WIDTH}), dynamo=True)` from an example of T steps, warm, median of "
        f"{ROUNDS}; beside each the whole `export()`, with its golden data, digests and fsync, least of {REPEATS}. "
        "torch unrolls the loop; ours has no T to depend on.",
        "",
        "| T | torch, seconds | nodes | " + " | ".join(f"`{form}`, ms" for form in SHOWN) + " | times faster, "
        "`scan` | the slowest of all forms |",
        "|---|---|---|" + "---|" * (len(SHOWN) + 2),
    ]
    for T, row in data["lengths"].items():
        slowest = min(forms, key=lambda form: row[form]["times"])
        cells = [f"{row['torch']['seconds']:.2f}", str(int(row["torch"]["nodes"]))]
        cells += [f"{row[form]['export'] * 1e3:.1f}" for form in SHOWN]
        cells += [f"**{row[SHOWN[0]]['times']:.0f}**", f"{row[slowest]['times']:.0f} (`{slowest}`)"]
        lines.append(f"| {T} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Bound: {TIMES} times at T = {LENGTHS[-1]}. The drawing alone, in milliseconds, for a form of each kind: "
        + ", ".join(f"`{form}` {data['lengths'][str(LENGTHS[-1])][form]['draw'] * 1e3:.2f}" for form in forms)
        + ".",
        "",
        f"Over the layers, H = {WIDTH}, milliseconds drawn / exported:",
        "",
        "| L | " + " | ".join(f"`{form}`" for form in SHOWN) + " |",
        "|---|" + "---|" * len(SHOWN),
    ]
    for L, row in data["layers"].items():
        cells = [f"{row[form]['draw'] * 1e3:.2f} / {row[form]['export'] * 1e3:.1f}" for form in SHOWN]
        lines.append(f"| {L} | {' | '.join(cells)} |")
    return "\n".join(lines)
