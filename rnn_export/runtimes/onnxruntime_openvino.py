"""ONNX Runtime with Intel's OpenVINO execution provider."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._onnxruntime import session_run


@runtime(
    "onnxruntime-openvino",
    requires=("onnxruntime-openvino==1.24.1", "numpy==2.4.6"),
    own_environment=True,  # its files overwrite onnxruntime's
    summary="ONNX Runtime, OpenVINO execution provider on the CPU",
)
def prepare(folder: Path) -> Run:
    # Without a configured precision the provider may take what the processor is fastest in.
    options = {"device_type": "CPU", "precision": "FP32", "num_of_threads": "1"}
    return session_run(folder, "OpenVINOExecutionProvider", options)
