"""Real checkpoints that nobody here wrote, from their files to ONNX Runtime's answers.

    python scripts/real_checkpoints.py ../shared/checkpoints

Prints for each its network, the residual of ONNX Runtime's run, and how the exported file does the task: the flip-flop
network against the task itself; the two name classifiers, whose data is not at hand, against torch on the same names.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from rnn_export import Artifact, export, verify
from rnn_export.checkpoint import Checkpoint, load_checkpoint
from rnn_export.execution import execute
from rnn_export.runtimes import RUNTIMES

SOURCES = {
    "flip_flop_net_6.pt": "output_layer",
    "latifb_single_matrix_MIT.pth": "i2o",
    "spro_legacy_tar_MIT.pt": "i2o",
}
PULSE = 0.25  # the share of steps with a pulse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the checkpoints are")
    folder = parser.parse_args().folder
    table = Table(box=None, header_style="bold")
    for heading in ("checkpoint", "network", "residual", "verdict", "task in ONNX Runtime"):
        table.add_column(heading, no_wrap=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, head in SOURCES.items():
            checkpoint = load_checkpoint(folder / name, head=head)
            artifact = export(checkpoint, Path(scratch) / name)
            report = verify(artifact.path, runtimes=["onnxruntime-cpu"])
            residual = max(row.residual for row in report.results if row.residual is not None)
            verdict = "PASSED" if report.exit_code == 0 else "FAILED"
            task = flip_flop(artifact) if head == "output_layer" else names(artifact, checkpoint)
            table.add_row(name, str(artifact.spec), f"{residual:.2f}", verdict, task)
    Console(width=200).print(table)


def flip_flop(artifact: Artifact, T: int = 200, B: int = 64) -> str:
    """Output i must have the sign of the last pulse on channel i, from that channel's first pulse on."""
    generator = np.random.default_rng(0)
    channels = artifact.spec.input_size
    pulses = generator.choice([-1.0, 1.0], (B, T, channels)) * (generator.random((B, T, channels)) < PULSE)
    latest = np.zeros((B, channels))
    wanted = np.empty_like(pulses)
    for t in range(T):
        latest = np.where(pulses[:, t] != 0, pulses[:, t], latest)
        wanted[:, t] = latest
    prediction = run(artifact, pulses.astype(np.float32))
    known = wanted != 0
    right = (np.sign(prediction) == wanted)[known]
    return f"sign accuracy {right.mean():.4f} ({right.sum():,} of {right.size:,})"


def names(artifact: Artifact, checkpoint: Checkpoint, B: int = 1000, T: int = 9) -> str:
    """The class after the last letter, of random letters one-hot: ONNX Runtime's against torch's own cell."""
    weights, head = checkpoint.weights, checkpoint.head
    assert head is not None
    letters = np.random.default_rng(0).integers(0, artifact.spec.input_size, (T, B))
    x = np.eye(artifact.spec.input_size, dtype=np.float32)[letters]
    found = run(artifact, x)[-1].argmax(axis=1)
    matrix, bias = (torch.from_numpy(array) for array in weights.single_matrix(0, 0))
    h = torch.zeros(B, artifact.spec.hidden_size)
    for step in torch.from_numpy(x):
        both = torch.cat([step, h], dim=1)
        expected = torch.nn.functional.linear(both, torch.tensor(head.weight), torch.tensor(head.bias))
        h = torch.nn.functional.linear(both, matrix, bias)
    same = found == expected.argmax(dim=1).numpy()
    return f"torch's class for {same.mean():.2%} of {B:,} names"


def run(artifact: Artifact, x: np.ndarray) -> np.ndarray:
    B = x.shape[0 if artifact.spec.batch_first else 1]
    inputs = {"input": x, "h_0": np.zeros((1, B, artifact.spec.hidden_size), np.float32)}
    return execute(RUNTIMES.get("onnxruntime-cpu"), artifact.path, inputs)["prediction"]


if __name__ == "__main__":
    main()
