"""ONNX Runtime on CUDA, TF32 off: what is asked for is float32."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._cuda import need_cuda_device
from rnn_export.runtimes._onnxruntime import session_run

# An environment of its own: the files of onnxruntime and onnxruntime-gpu overwrite each other.
REQUIRES = ("onnxruntime-gpu[cuda,cudnn]==1.31.1", "numpy==2.4.6")


@runtime(
    "onnxruntime-cuda",
    requires=REQUIRES,
    own_environment=True,
    summary="ONNX Runtime, CUDA execution provider, TF32 off",
    environ={"NVIDIA_TF32_OVERRIDE": "0"},  # cuDNN's RNN does not consult use_tf32
    device="CUDA",
    limit_address_space=False,
)
def prepare(folder: Path) -> Run:
    need_cuda_device()
    import onnxruntime

    onnxruntime.preload_dlls()  # CUDA and cuDNN from the environment's own wheels
    return session_run(folder, "CUDAExecutionProvider", {"use_tf32": "0"})
