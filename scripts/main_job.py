"""The main job: both digit networks exported, verified, and their accuracy in each.

python scripts/main_job.py [-o FOLDER] [--form FORM]
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import load_file

from rnn_export import Artifact, export, verify
from rnn_export.child import Failure
from rnn_export.execution import execute
from rnn_export.runtimes import RUNTIMES
from rnn_export.table import print_report

MODELS = Path(__file__).resolve().parent.parent / "models"
NETWORKS = ("digits-rows", "digits-pixels")
VERIFIED = ("onnxruntime-cpu", "onnx-reference", "torch")  # what every machine has: others may refuse a form
PIXELS, LARGEST = 64, 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out"), help="where the artifacts go")
    parser.add_argument("--form", default="scan", help="scan, module or rnn")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    code = 0
    for name in NETWORKS:
        artifact = export(MODELS / f"{name}.safetensors", options.output / name, form=options.form)
        report = verify(artifact.path, runtimes=VERIFIED)
        print_report(report, console)
        for runtime, accuracy in accuracies(name, artifact):
            console.print(f"accuracy on the test set   {runtime:22} {accuracy}")
        console.print()
        code = min(filter(None, (code, report.exit_code)), default=0)  # 1, a wrong answer, outranks 4 and 5
    return code


def accuracies(name: str, artifact: Artifact) -> Iterator[tuple[str, str]]:
    """(runtime, accuracy) for each runtime that is present; the head is numpy's, on h_n of the runtime."""
    checkpoint = load_file(MODELS / f"{name}.safetensors")
    with np.load(MODELS / "digits-test.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    spec = artifact.spec
    inputs = {
        "input": sequences(images, spec.input_size),
        "h_0": np.zeros((1, len(images), spec.hidden_size), np.float32),
    }
    for runtime in (runtime for runtime in RUNTIMES if runtime.by_default):
        try:
            h_n = execute(runtime, artifact.path, inputs)["h_n"]
        except Failure as failure:
            yield runtime.name, f"{failure.status.value}: {failure.detail}"
            continue
        logits = h_n[-1] @ checkpoint["head.weight"].T + checkpoint["head.bias"]
        correct = int((logits.argmax(axis=1) == labels).sum())
        yield runtime.name, f"{correct}/{len(labels)}, {correct / len(labels):.2%}"


def sequences(images: NDArray[np.uint8], input_size: int) -> NDArray[np.float32]:
    """Images (N, 64) as (T, N, I) in [0, 1], with T = 64 / I."""
    steps = PIXELS // input_size
    scaled = images.reshape(len(images), steps, input_size).astype(np.float32) / LARGEST
    return np.ascontiguousarray(scaled.swapaxes(0, 1))


if __name__ == "__main__":
    sys.exit(main())
