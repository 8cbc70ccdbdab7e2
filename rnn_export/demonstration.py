"""The notebook that this project starts from: one small relu RNN, computed in every way there is."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnn_export.child import Failure
from rnn_export.execution import execute
from rnn_export.pipeline import export
from rnn_export.residual import step_residual
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

SPEC = RNNSpec(input_size=4, hidden_size=8, nonlinearity="relu")
STEPS, SEED = 5, 0
ONNX_RUNTIMES = ("onnxruntime-cpu", "onnxruntime-cuda")


@dataclass(frozen=True)
class Way:
    """One way to compute the last hidden state.

    Attributes:
        name: which way.
        last: h after the last step (H,), None where it did not run.
        residual: the largest q of its steps.
        status: PASS, MISMATCH, or why it did not run.
        detail: the reason, in words.
    """

    name: str
    last: NDArray[np.float32] | None
    residual: float | None
    status: Status
    detail: str = ""


def demonstrate() -> tuple[dict[str, tuple[int, ...]], list[Way]]:
    """The four weight shapes, and the last hidden state of five steps in every way, each with its verdict."""
    import torch

    from rnn_export.module import SingleMatrixRNN, TwoMatrixRNN, from_torch

    torch.manual_seed(SEED)
    network = torch.nn.RNN(**SPEC.to_dict()).eval()
    weights = from_torch(network)
    x = torch.randn(STEPS, 1, SPEC.input_size)
    modules = {
        "torch.nn.RNN": network,
        "two matrices": TwoMatrixRNN.from_weights(weights),
        "single matrix": SingleMatrixRNN.from_weights(weights),
    }
    ways = []
    for name, module in modules.items():
        with torch.no_grad():
            output, _ = module(x)
        ways.append(_judged(name, weights, x.numpy(), output.numpy()))
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        artifact = export(weights, Path(scratch) / "demo")
        ways += [_in_runtime(RUNTIMES.get(name), artifact.path, weights, x.numpy()) for name in ONNX_RUNTIMES]
    return {name: array.shape for name, array in weights.items()}, ways


def _in_runtime(runtime: Runtime, folder: Path, weights: Weights, x: NDArray[np.float32]) -> Way:
    name = f"ONNX file in {runtime.name}"
    inputs = {"input": x, "h_0": np.zeros((1, 1, SPEC.hidden_size), np.float32)}
    try:
        return _judged(name, weights, x, execute(runtime, folder, inputs)["output"])
    except Failure as failure:
        return Way(name, None, None, failure.status, failure.detail)


def _judged(name: str, weights: Weights, x: NDArray[np.float32], output: NDArray[np.float32]) -> Way:
    start = np.zeros((1, SPEC.hidden_size), np.float32)
    residual = step_residual(weights.cell(0, 0), x, start, output)
    return Way(name, output[-1, 0], residual.max_q, Status.PASS if residual.passed else Status.MISMATCH)
