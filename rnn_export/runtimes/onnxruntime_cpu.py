"""ONNX Runtime on the CPU."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._onnxruntime import LACKS, SNIPPET, session_run


@runtime(
    "onnxruntime-cpu",
    requires=("onnxruntime",),
    summary="ONNX Runtime, CPU execution provider",
    lacks=LACKS,
    snippet=SNIPPET,
)
def prepare(folder: Path) -> Run:
    return session_run(folder, "CPUExecutionProvider", {})
