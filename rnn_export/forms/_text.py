"""Drawing as ONNX text, which shows the graph: the frame that the direct forms share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from rnn_export.forms import Drawing
from rnn_export.forms._external import STORED, declared_tensor
from rnn_export.forms._tidy import graphs
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

_MASK = """shape = Shape (sequence_0)
  steps = Gather <axis: int = 0> (shape, first)
  times = Range (first, steps, one)
  time_column = Unsqueeze (times, column_axis)
  length_row = Unsqueeze (lengths, row_axis)
  inside_rows = Less (time_column, length_row)
  inside = Unsqueeze (inside_rows, unit_axis)"""


def element_type(weights: Weights) -> str:
    """The element type in ONNX's text syntax."""
    return {"float32": "float", "float64": "double"}.get(weights.dtype.name, weights.dtype.name)


def drawn_model(
    weights: Weights, drawing: Drawing, layers: Sequence[str], initializers: Mapping[str, Any]
) -> onnx.ModelProto:
    """The model around the layers' own statements.

    ``layers`` read ``sequence_0`` (T, B, I) and ``h_0``; layer l writes ``sequence_{l+1}`` (T, B, D*H) and its
    last states ``last_{l}`` (D, B, H). With lengths they may also read ``inside`` (T, B, 1), true within a sequence,
    and ``zero``.
    """
    spec, real = weights.spec, element_type(weights)
    L, D, H = spec.num_layers, spec.num_directions, spec.hidden_size
    length = drawing.steps or "T"
    axes = f"B,{length}" if spec.batch_first else f"{length},B"
    turn = "Transpose <perm: ints = [1, 0, 2]>" if spec.batch_first else "Identity"
    masks = [_MASK] if drawing.lengths else []
    body = [f"sequence_0 = {turn} (input)", *masks, *layers, f"output = {turn} (sequence_{L})"]
    lasts = ", ".join(f"last_{layer}" for layer in range(L))
    body.append(f"h_n = Concat <axis: int = 0> ({lasts})" if L > 1 else "h_n = Identity (last_0)")
    text = (
        f"{model_header(drawing)}\n"
        f"rnn ({real}[{axes},{spec.input_size}] input, {real}[{L * D},B,{H}] h_0"
        f"{', int64[B] lengths' if drawing.lengths else ''})"
        f" => ({real}[{axes},{D * H}] output, {real}[{L * D},B,{H}] h_n)\n"
        "{\n  " + "\n  ".join(body) + "\n}"
    )
    model = parser.parse_model(text)
    add_initializers(model.graph, initializers, drawing)
    if drawing.lengths:
        integers = {"first": 0, "one": 1, "time_axis": [0], "row_axis": [0], "column_axis": [1], "unit_axis": [2]}
        present = {tensor.name for tensor in model.graph.initializer}
        arrays = {name: np.array(value, np.int64) for name, value in integers.items() if name not in present}
        add_initializers(model.graph, {**arrays, "zero": np.zeros((), weights.dtype)}, drawing)
    return model


def activated_text(spec: RNNSpec, z: str, h: str, new: str, inside: str, held: str) -> list[str]:
    """Statements that make the state ``new`` (B, H) of the sum ``z`` (B, H).

    Args:
        spec: the network.
        z, h, new: names of values; ``h`` is the state before.
        inside: the name of bool (B, 1), where the state may change; it does everywhere if empty.
        held: the name of what the state would be everywhere, where ``inside`` is given.
    """
    activation = {"tanh": "Tanh", "relu": "Relu", "identity": "Identity"}[spec.nonlinearity]
    if not inside:
        return [f"{new} = {activation} ({z})"]
    # Where, never a product: a NaN in the padding must not reach the state.
    return [f"{held} = {activation} ({z})", f"{new} = Where ({inside}, {held}, {h})"]


def model_header(drawing: Drawing) -> str:
    """The line in front of a model's text."""
    opset = drawing.opset
    return f'<ir_version: {_ir_version(opset)}, opset_import: ["" : {opset}], producer_name: "rnn-export">'


def add_initializers(graph: onnx.GraphProto, arrays: Mapping[str, Any], drawing: Drawing) -> None:
    """The arrays as constants of the graph; weights, with axes, only declared where they lie beside it."""
    for name, array in arrays.items():
        if drawing.external and array.ndim and array.dtype.name in STORED:
            graph.initializer.append(declared_tensor(name, array))
        else:
            graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))


def place_constants(graph: onnx.GraphProto, arrays: Mapping[str, Any], drawing: Drawing) -> None:
    """Each array inside the one graph that reads it, as some runtimes ask for; outside where several do."""
    readers: dict[str, list[onnx.GraphProto]] = {name: [] for name in arrays}
    for inner in graphs(graph):
        for name in {name for node in inner.node for name in node.input} & set(arrays):
            readers[name].append(inner)
    for name, array in arrays.items():
        add_initializers(readers[name][0] if len(readers[name]) == 1 else graph, {name: array}, drawing)


def _ir_version(opset: int) -> int:
    version: int = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    return version
