"""What the rows that load a network into a server read of it: the names, types and sizes of its inputs and outputs."""

from pathlib import Path
from typing import Any

DATATYPES = {  # as ONNX Runtime names a type -> as the Open Inference Protocol does
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(bool)": "BOOL",
}
Tensors = list[tuple[str, str, list[int]]]  # (name, datatype, sizes), -1 where one is dynamic


def tensors_of(model: Path) -> tuple[Tensors, Tensors]:
    """The inputs and outputs of an ONNX file, all axes included.

    What ONNX Runtime cannot load or run is said by it here, in its own words.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), _quiet(onnxruntime), providers=["CPUExecutionProvider"])
    return [_tensor(value) for value in session.get_inputs()], [_tensor(value) for value in session.get_outputs()]


def _quiet(onnxruntime: Any) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors only
    return settings


def _tensor(value: Any) -> tuple[str, str, list[int]]:
    return value.name, DATATYPES[value.type], [size if isinstance(size, int) else -1 for size in value.shape]
