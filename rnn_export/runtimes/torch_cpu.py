"""torch.nn.RNN on the CPU: the reference row, from the weights and not from the ONNX file."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._torch import torch_run


@runtime(
    "torch",
    requires=("torch", "safetensors"),
    summary="torch.nn.RNN on the weights, CPU (the reference row)",
    reads="weights.safetensors",
)
def prepare(folder: Path) -> Run:
    return torch_run(folder, "cpu")
