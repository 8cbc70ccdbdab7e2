"""What ``torch.onnx.export(verify=True)`` costs, and what it would say of a file."""

import logging
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from faults.trials import accepted_by_torch
from torch import nn

from rnn_export.runtimes import RUNTIMES
from speed.planted import EXAMPLE_B, EXAMPLE_T, RUNTIME, SPEC, Planted

REPEATS = 3  # of each export, of which the least counts


def added_seconds(folder: Path) -> float:
    """What ``verify=True`` adds to an export of the same network."""
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    module = nn.RNN(SPEC.input_size, SPEC.hidden_size).eval()
    example = (torch.zeros(EXAMPLE_T, EXAMPLE_B, SPEC.input_size), torch.zeros(1, EXAMPLE_B, SPEC.hidden_size))

    def export(verify: bool) -> float:
        started = time.perf_counter()
        torch.onnx.export(module, example, folder / "torch.onnx", dynamo=True, verify=verify, verbose=False)
        return time.perf_counter() - started

    with warnings.catch_warnings(), torch.no_grad():  # the exporter's own, about its own future
        warnings.simplefilter("ignore")
        pairs = [(export(True), export(False)) for _ in range(REPEATS)]
    checked, unchecked = zip(*pairs, strict=True)
    return float(min(checked) - min(unchecked))


def accepts(file: Planted, folder: Path) -> bool:
    """Torch's rule on the example that it would have seen; it takes no file of anybody else's."""
    place = folder / "seen-by-torch"
    place.mkdir(exist_ok=True)
    (place / "model.onnx").write_bytes(file.model.read_bytes())
    with np.load(file.cases) as stored:
        first = {name: stored[f"000.{name}"] for name in ("input", "h_0", "output", "h_n")}
    found = RUNTIMES.get(RUNTIME).prepare(place)({"input": first["input"], "h_0": first["h_0"]})
    return accepted_by_torch({name: first[name] for name in ("output", "h_n")}, found)
