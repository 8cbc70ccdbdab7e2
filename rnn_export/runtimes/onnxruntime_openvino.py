"""ONNX Runtime with Intel's OpenVINO execution provider."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime, thread_limit
from rnn_export.runtimes._onnxruntime import SNIPPET, session_run

# Without a configured precision the provider may take what the processor is fastest in.
OPTIONS = {"device_type": "CPU", "precision": "FP32", "num_of_threads": "1"}
PROVIDER = "OpenVINOExecutionProvider"


@runtime(
    "onnxruntime-openvino",
    requires=("onnxruntime-openvino==1.24.1", "numpy==2.4.6"),
    own_environment=True,  # its files overwrite onnxruntime's
    summary="ONNX Runtime, OpenVINO execution provider on the CPU",
    snippet=SNIPPET.replace('"CPUExecutionProvider"', repr((PROVIDER, OPTIONS))),
)
def prepare(folder: Path) -> Run:
    return session_run(folder, PROVIDER, {**OPTIONS, "num_of_threads": str(thread_limit())})
