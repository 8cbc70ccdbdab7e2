"""tinygrad on the CPU. It compiles each kernel with clang, and the clang of PyPI is the one inside ziglang."""

import os
import sys
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime

SNIPPET = """# it needs clang on the path
from tinygrad import Tensor
from tinygrad.nn.onnx import OnnxRunner
answers = OnnxRunner("model.onnx")({name: Tensor(array) for name, array in inputs.items()})
found = {name: answer.numpy() for name, answer in answers.items()}"""


@runtime(
    "tinygrad",
    requires=("tinygrad==0.14.0", "ziglang==0.15.2", "numpy==2.4.6"),
    own_environment=True,
    summary="tinygrad, CPU, kernels compiled by clang",
    environ={"DEV": "CPU", "NUM_CPU_THREADS": "1", "CACHELEVEL": "0"},  # no kernels of another machine from a cache
    snippet=SNIPPET,
    slow_to_compile=True,
    single_threaded=True,
)
def prepare(folder: Path) -> Run:
    os.environ["CC"] = str(_clang())
    from tinygrad import Tensor
    from tinygrad.nn.onnx import OnnxRunner

    file = folder / "model.onnx"
    OnnxRunner(file)  # what it cannot read is said now

    def run(inputs: Any) -> dict[str, Any]:
        # A runner of its own: one is bound to the sizes that it got first.
        found = OnnxRunner(file)({name: Tensor(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in found.items()}

    return run


def _clang() -> Path:
    """The command ``clang``, which ziglang has under another name, made in the runtime's own environment."""
    import ziglang

    zig, command = Path(ziglang.__file__).with_name("zig"), Path(sys.prefix, "bin", "clang")
    if not command.exists():
        draft = command.with_name(f"clang.{os.getpid()}")
        draft.write_text(f'#!/bin/sh\nexec "{zig}" clang "$@"\n')
        draft.chmod(0o755)
        draft.replace(command)
    return command
