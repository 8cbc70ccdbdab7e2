"""ONNX Runtime on the CPU."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._onnxruntime import SNIPPET, session_run

# float16 products are computed in float32, between casts that ONNX Runtime adds.
LACKS = frozenset({("RNN", "float64"), ("RNN", "bfloat16"), ("Gemm", "bfloat16")})


@runtime(
    "onnxruntime-cpu",
    requires=("onnxruntime",),
    summary="ONNX Runtime, CPU execution provider",
    lacks=LACKS,
    snippet=SNIPPET,
)
def prepare(folder: Path) -> Run:
    return session_run(folder, "CPUExecutionProvider", {})
