"""The files that all are given, right ones and others, with the inputs and what torch computes from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from faults.graph import graph_faults
from faults.nets import Net, nets
from numpy.typing import NDArray

from rnn_export.checkpoint import save_weights
from rnn_export.forms import draw
from rnn_export.module import to_torch
from rnn_export.pipeline import DEFAULT_OPSET
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

SPEC, FORM, RUNTIME = RNNSpec(8, 16), "scan", "onnxruntime-cpu"
EXAMPLE_T, EXAMPLE_B = 5, 3  # of the export, and all that torch's own check sees
LENGTHS, BATCHES = range(1, 21), (1, 2, 3)
CHAOTIC = 8  # of ``faults.nets``: a right network in which roundings grow, as in a trained one
RIGHT, RIGHT_CHAOTIC, FROZEN = "right", "right, roundings grow", "length frozen"
GRAPH_FAULTS = (FROZEN, "h_0 ignored")
ADDED = (1e-4, 1e-5, 1e-6)  # to one bias


class Planted(NamedTuple):
    """A file to check.

    Attributes:
        name: what is wrong with it; RIGHT or RIGHT_CHAOTIC where nothing is.
        model, weights: the file, and what it should hold.
        cases: .npz with NUMBER.input, .h_0, .output and .h_n of every length and batch.
    """

    name: str
    model: Path
    weights: Path
    cases: Path

    @property
    def converted(self) -> tuple[Path, Path]:
        """The cases in Polygraphy's own format: inputs, and what torch computes from them."""
        return self.cases.with_name("inputs.json"), self.cases.with_name("expected.json")


def plant(folder: Path) -> Iterator[Planted]:
    """Every file, the right ones first."""
    calm, chaotic = Weights.random(SPEC, 0), nets(CHAOTIC + 1, 0)[CHAOTIC].weights
    right = draw(FORM, calm, DEFAULT_OPSET)
    kept = _keep(folder / "calm", calm)
    yield _file(folder, RIGHT, right, kept)
    yield _file(folder, RIGHT_CHAOTIC, draw(FORM, chaotic, DEFAULT_OPSET), _keep(folder / "chaotic", chaotic))
    # The slice that freezes keeps one step less than the net has.
    net = Net("calm", calm, FORM, gain=1.0, T=EXAMPLE_T + 1, B=EXAMPLE_B)
    for name, model in graph_faults(net, right):
        if name in GRAPH_FAULTS:
            yield _file(folder, name, model, kept)
    for added in ADDED:
        arrays = {name: array.copy() for name, array in calm.items()}
        arrays["bias_ih_l0"][3] += np.float32(added)
        yield _file(folder, f"one bias + {added:g}", draw(FORM, Weights(calm.spec, arrays), DEFAULT_OPSET), kept)


def _file(folder: Path, name: str, model: onnx.ModelProto, kept: tuple[Path, Path]) -> Planted:
    path = folder / f"{name}.onnx".replace(" ", "-").replace(",", "")
    onnx.save(model, path)
    return Planted(name, path, *kept)


def _keep(folder: Path, weights: Weights) -> tuple[Path, Path]:
    """The checkpoint, and the inputs with what torch computes from them."""
    folder.mkdir()
    save_weights(folder / "weights.safetensors", weights)
    network = to_torch(weights).eval()
    arrays: dict[str, NDArray[np.float32]] = {}
    sizes = [(EXAMPLE_T, EXAMPLE_B), *((T, B) for T in LENGTHS for B in BATCHES if (T, B) != (EXAMPLE_T, EXAMPLE_B))]
    generator = np.random.default_rng(0)
    for number, (T, B) in enumerate(sizes):
        x = generator.standard_normal((T, B, weights.spec.input_size)).astype(np.float32)
        h_0 = generator.uniform(-1, 1, (1, B, weights.spec.hidden_size)).astype(np.float32)
        with torch.no_grad():
            output, h_n = network(torch.from_numpy(x), torch.from_numpy(h_0))
        found = {"input": x, "h_0": h_0, "output": output.numpy(), "h_n": h_n.numpy()}
        arrays |= {f"{number:03}.{name}": array for name, array in found.items()}
    np.savez(folder / "cases.npz", allow_pickle=False, **arrays)
    return folder / "weights.safetensors", folder / "cases.npz"
