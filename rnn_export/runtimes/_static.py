"""What the runtimes that compile for fixed sizes share: a model with the sizes of its inputs written into it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run

Shapes = Mapping[str, tuple[int, ...]]
Compile = Callable[[Any], Run]  # a ModelProto of fixed sizes -> run

STATIC = """import onnx
model = onnx.load("model.onnx")
for value in model.graph.input:
    for dim, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].shape):
        dim.dim_value = size
for value in model.graph.output:
    value.type.tensor_type.ClearField("shape")
model = onnx.shape_inference.infer_shapes(model)
names = [output.name for output in model.graph.output]
"""


def static_run(folder: Path, compiled: Compile) -> Run:
    """Compile folder/model.onnx when inputs of new shapes come, as a user of such a runtime does.

    A refusal is remembered too: what was refused for some shapes is not compiled for them again.
    """
    import onnx

    model = onnx.load(folder / "model.onnx")
    ready: dict[tuple[tuple[int, ...], ...], Run | Exception] = {}

    def run(inputs: Any) -> Any:
        shapes = {name: array.shape for name, array in inputs.items()}
        key = tuple(shapes[name] for name in sorted(shapes))
        if key not in ready:
            try:
                ready[key] = compiled(static_model(model, shapes))
            except Exception as error:
                ready[key] = error
        answer = ready[key]
        if isinstance(answer, Exception):
            raise answer
        return answer(inputs)

    return run


def static_model(model: Any, shapes: Shapes) -> Any:
    """A copy of an onnx.ModelProto whose inputs have these shapes; every other shape is inferred from them.

    Raises:
        ValueError: an input is not given, or the model declares another size for it.
    """
    import onnx

    static = onnx.ModelProto()
    static.CopyFrom(model)
    for value in inputs_of(static):
        _write_sizes(value, shapes.get(value.name))
    del static.graph.value_info[:]  # they speak of the sizes that were dynamic
    for value in static.graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(static, data_prop=True)


def inputs_of(model: Any) -> list[Any]:
    """The ValueInfoProtos of the inputs that somebody has to give, in the model's order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _write_sizes(value: Any, shape: tuple[int, ...] | None) -> None:
    dims = value.type.tensor_type.shape.dim
    declared = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims]
    fits = shape is not None and len(shape) == len(dims)
    if shape is None or not fits or any(said not in (n, str(said)) for said, n in zip(declared, shape, strict=True)):
        raise ValueError(f"{value.name} is declared as {declared}, but its shape is {shape}")
    for dim, size in zip(dims, shape, strict=True):
        dim.dim_value = size
