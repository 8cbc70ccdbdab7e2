"""A head on any form: a Linear on every step, as the further output ``prediction`` of the same file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, parser

from rnn_export.forms import Drawing
from rnn_export.forms._text import add_initializers
from rnn_export.spec import RNNSpec, suffix

# The classic i2o reads [x_t, h_(t-1)], the cell's own input: the states are h_0 and then all but the last output.
_STEP = """head_start = Transpose <perm: ints = {turn}> (h_0)
  head_states = Concat <axis: int = {time}> (head_start, output)
  head_before = Slice (head_states, head_first, head_last, head_time)
  head_step = Concat <axis: int = 2> (input, head_before)"""
_PRODUCT = "head_product = MatMul ({read}, head_matrix)\n  prediction = Add (head_product, head_bias)"
# Past a sequence's end nothing of the padding may come through, not even NaN: prediction is the bias there.
_PADDING = """head_shape = Shape (input)
  head_steps = Gather <axis: int = 0> (head_shape, head_time_scalar)
  head_range = Range (head_zero, head_steps, head_one)
  head_row = Unsqueeze (head_range, head_range_axis)
  head_lengths = Unsqueeze (lengths, head_lengths_axis)
  head_rows = Less (head_row, head_lengths)
  head_inside = Unsqueeze (head_rows, head_unit_axis)
  head_kept = Where (head_inside, head_step, head_nothing)"""


def add_head(model: onnx.ModelProto, constants: Mapping[str, Any], spec: RNNSpec, drawing: Drawing) -> None:
    """Add ``prediction = read @ head_matrix + head_bias``, (T, B, O), (B, T, O) or of one step (B, O), in place.

    The head reads ``output``, of one step the top layer's state, or where the matrix is (I+H, O) instead of (D*H, O)
    what the cell itself reads.
    """
    graph = model.graph
    matrix = constants["head_matrix"]
    joined = len(matrix) != spec.num_directions * spec.hidden_size
    if len(graph.input[0].type.tensor_type.shape.dim) == 2:
        top = suffix(spec.num_layers - 1, 0)
        step = [f"head_step = Concat <axis: int = 1> (input, start{top})"] if joined else []
        _append(graph, [*step, _PRODUCT.format(read="head_step" if joined else f"h_next{top}")], constants, drawing)
        _declare(graph, ["B", matrix.shape[1]], matrix)
        return
    time = 1 if spec.batch_first else 0
    statements, read = [], "output"
    integers: dict[str, int | list[int]] = {}
    if joined:
        statements.append(_STEP.format(turn="[1, 0, 2]" if spec.batch_first else "[0, 1, 2]", time=time))
        read, integers = "head_step", {"head_first": [0], "head_last": [-1], "head_time": [time]}
        if any(value.name == "lengths" for value in graph.input):
            statements.append(_PADDING)
            read = "head_kept"
            integers |= {"head_zero": 0, "head_one": 1, "head_time_scalar": time, "head_unit_axis": [2]}
            integers |= {"head_range_axis": [1 - time], "head_lengths_axis": [time]}
    _append(graph, [*statements, _PRODUCT.format(read=read)], constants, drawing)
    add_initializers(graph, {name: np.array(value, np.int64) for name, value in integers.items()}, drawing)
    if "head_zero" in integers:
        add_initializers(graph, {"head_nothing": np.zeros((), matrix.dtype)}, drawing)
    length = drawing.steps or "T"
    _declare(graph, [*(("B", length) if spec.batch_first else (length, "B")), matrix.shape[1]], matrix)


def _append(graph: onnx.GraphProto, statements: list[str], constants: Mapping[str, Any], drawing: Drawing) -> None:
    graph.node.extend(parser.parse_graph("head () => () {\n  " + "\n  ".join(statements) + "\n}").node)
    add_initializers(graph, {name: constants[name] for name in ("head_matrix", "head_bias")}, drawing)


def _declare(graph: onnx.GraphProto, shape: list[str | int], matrix: Any) -> None:
    real = helper.np_dtype_to_tensor_dtype(matrix.dtype)
    graph.output.append(helper.make_tensor_value_info("prediction", real, shape))
