"""OpenVINO on the CPU, asked for float32."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._openvino import REQUIRES, SNIPPET, compiled_run


@runtime(
    "openvino",
    requires=REQUIRES,
    own_environment=True,
    summary="OpenVINO, CPU, INFERENCE_PRECISION_HINT=f32",
    snippet=SNIPPET.replace("HINTS", '{"INFERENCE_PRECISION_HINT": "f32"}'),
)
def prepare(folder: Path) -> Run:
    # Without the hint a CPU that has bfloat16 computes in it.
    return compiled_run(folder, {"INFERENCE_PRECISION_HINT": "f32"})
