"""TensorRT through its own Python API, TF32 off: an engine built for the shapes that it is given."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Fallback, Run, runtime
from rnn_export.runtimes._cuda import need_cuda_device
from rnn_export.runtimes._static import static_run


@runtime(
    "tensorrt",
    # From 11 on a network computes in the types that its file declares; before, in what the builder found fastest.
    requires=(
        "tensorrt-cu13-bindings==11.4.0.106",
        "tensorrt-cu13-libs==11.4.0.106",
        "cuda-bindings==13.5.0",
        "onnx==1.23.2",
        "numpy==2.4.6",
    ),
    own_environment=True,
    summary="TensorRT, TF32 off, built for the shapes at hand",
    environ={"NVIDIA_TF32_OVERRIDE": "0"},  # the libraries that it calls, too
    device="CUDA",
    limit_address_space=False,
    slow_to_compile=True,
)
def prepare(folder: Path) -> Run:
    need_cuda_device()
    return static_run(folder, _compiled)


def _compiled(model: Any) -> Run:
    import numpy as np
    import tensorrt_bindings as trt

    class Said(trt.ILogger):  # type: ignore[misc]  # it has no types
        """What TensorRT says of its errors, which it never raises."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.lines.append(message)

    said = Said()

    def made(thing: Any, what: str) -> Any:
        if not thing:
            raise RuntimeError(f"TensorRT {what}: {'; '.join(said.lines) or 'without a word'}")
        return thing

    builder = trt.Builder(said)
    network, config = builder.create_network(0), builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # its default is on
    if config.get_flag(trt.BuilderFlag.TF32):
        raise Fallback("TF32 is on although it was turned off")
    parser = trt.OnnxParser(network, said)
    made(parser.parse(model.SerializeToString()), "cannot read the model")
    plan = made(builder.build_serialized_network(network, config), "cannot build an engine")
    engine = made(trt.Runtime(said).deserialize_cuda_engine(plan), "cannot load its own engine")
    context = made(engine.create_execution_context(), "cannot make a context")
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    answers = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]

    def run(inputs: Any) -> dict[str, Any]:
        arrays = {name: np.ascontiguousarray(inputs[name]) for name in names if name not in answers}
        for name in answers:
            shape, dtype = tuple(context.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name))
            arrays[name] = np.empty(shape, dtype)
        with _DeviceMemory() as memory:
            for name, array in arrays.items():
                context.set_tensor_address(name, memory.holding(array))
            made(context.execute_async_v3(0), "cannot run its engine")
            for name in answers:
                memory.fetch(arrays[name])
        return {name: arrays[name] for name in answers}

    return run


class _DeviceMemory:
    """Copies of arrays on the device, on CUDA's default stream; a context manager, which frees them."""

    def __init__(self) -> None:
        from cuda.bindings import runtime as cuda

        self._cuda = cuda
        self._places: dict[int, int] = {}  # id of the array -> address

    def __enter__(self) -> "_DeviceMemory":
        return self

    def __exit__(self, *_: object) -> None:
        for place in self._places.values():
            self._cuda.cudaFree(place)

    def holding(self, array: Any) -> int:
        """The address of a copy of the array."""
        place = self._checked(self._cuda.cudaMalloc(max(1, array.nbytes)))
        self._places[id(array)] = place
        self._copy(place, array.ctypes.data, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)
        return int(place)

    def fetch(self, array: Any) -> None:
        """Copy back into the array what is on the device; this waits until it is computed."""
        place = self._places[id(array)]
        self._copy(array.ctypes.data, place, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, to: int, origin: int, size: int, kind: Any) -> None:
        self._checked(self._cuda.cudaMemcpy(to, origin, size, kind))

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        error, *values = answer
        if error != self._cuda.cudaError_t.cudaSuccess:
            raise RuntimeError(f"CUDA: {self._cuda.cudaGetErrorString(error)[1].decode()}")
        return values[0] if values else None
