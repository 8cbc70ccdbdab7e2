"""ONNX Runtime on CUDA as it comes, with TF32 allowed: judged as TF32, and no float32 row."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._cuda import need_cuda_device
from rnn_export.runtimes._onnxruntime import session_run
from rnn_export.runtimes.onnxruntime_cuda import REQUIRES


@runtime(
    "onnxruntime-cuda-tf32",
    requires=REQUIRES,
    own_environment=True,
    summary="ONNX Runtime, CUDA execution provider, TF32 on",
    precision="TF32",
    device="CUDA",
    limit_address_space=False,
)
def prepare(folder: Path) -> Run:
    need_cuda_device()
    import onnxruntime

    onnxruntime.preload_dlls()
    return session_run(folder, "CUDAExecutionProvider", {"use_tf32": "1"})
