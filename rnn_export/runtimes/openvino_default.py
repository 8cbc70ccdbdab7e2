"""OpenVINO on the CPU as it comes: in the precision that it picks for the processor."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._openvino import REQUIRES, SNIPPET, compiled_run


@runtime(
    "openvino-default",
    requires=REQUIRES,
    own_environment=True,
    summary="OpenVINO in the precision that it picks; when named",
    snippet=SNIPPET.replace("HINTS", "{}"),
    by_default=False,  # on a CPU that has bfloat16 it never is float32
)
def prepare(folder: Path) -> Run:
    return compiled_run(folder, {})
