"""The recurrence as a Python loop over the weights, compiled by torch.compile for the CPU."""

import os
import shutil
from pathlib import Path

from rnn_export.runtimes import Absent, Run, runtime, thread_limit
from rnn_export.runtimes._torch import loop_run, read_weights


@runtime(
    "torch-compile",
    requires=("torch", "safetensors"),
    summary="a loop over the weights by torch.compile; when named",
    reads="weights.safetensors",
    environ={"TORCHINDUCTOR_COMPILE_THREADS": "1"},  # no pool of processes beside the child
    slow_to_compile=True,
    by_default=False,  # tens of seconds for each shape
)
def prepare(folder: Path) -> Run:
    import torch

    compiler = os.environ.get("CXX", "g++")  # where torch.compile looks
    if shutil.which(compiler) is None:
        raise Absent(f"torch.compile needs a C++ compiler, and there is no {compiler}: install g++, or set CXX")
    torch.set_num_threads(thread_limit())
    return loop_run(torch, *read_weights(folder, "cpu"), "cpu", compiled=True)
