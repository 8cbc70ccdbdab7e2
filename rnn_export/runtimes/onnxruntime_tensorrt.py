"""ONNX Runtime with its TensorRT execution provider: float32, without TF32."""

from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._cuda import need_cuda_device
from rnn_export.runtimes._onnxruntime import SNIPPET, session_run

# TensorRT 10 is what the provider's library is linked to.
REQUIRES = (
    "onnxruntime-gpu[cuda,cudnn]==1.31.1",
    "tensorrt-cu13-libs==10.16.1.11",
    "numpy==2.4.6",
)
OPTIONS = {
    "trt_fp16_enable": "0",
    "trt_bf16_enable": "0",
    "trt_int8_enable": "0",
    "trt_engine_cache_enable": "0",  # nothing of another run
}


@runtime(
    "onnxruntime-tensorrt",
    requires=REQUIRES,
    own_environment=True,  # its files overwrite onnxruntime's
    summary="ONNX Runtime, TensorRT execution provider, TF32 off",
    environ={"NVIDIA_TF32_OVERRIDE": "0"},  # the provider has no option for it
    device="CUDA",
    limit_address_space=False,
    snippet="import tensorrt_libs\n" + SNIPPET.replace("CPUExecutionProvider", "TensorrtExecutionProvider"),
    slow_to_compile=True,  # an engine for every shape beyond those that it has seen
)
def prepare(folder: Path) -> Run:
    need_cuda_device()
    import onnxruntime
    import tensorrt_libs  # noqa: F401  # it loads TensorRT's libraries, which the provider then finds

    onnxruntime.preload_dlls()  # CUDA and cuDNN from the environment's own wheels
    return session_run(folder, "TensorrtExecutionProvider", OPTIONS)
