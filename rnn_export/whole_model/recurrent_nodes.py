"""The recurrent nodes of a whole ONNX file: found, shown in an instrumented copy, and judged by the step residual.

Such a node is an RNN or a Scan of one cell. The copy also outputs what goes into the node, what comes out, and the
weights that it computes with, so the question is the verdict's own: is every step what the recurrence says, given the
input and the previous state that this runtime really had?
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from rnn_export.forms._external import read_in_place
from rnn_export.forms._tidy import body_of
from rnn_export.inspection import runs_in_reverse
from rnn_export.judgement import Judgement, judge_cell
from rnn_export.weights import Cell

Arrays = Mapping[str, NDArray[Any]]
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True)
class RecurrentNode:
    """The names of a node's values in the instrumented copy; empty where the node has no such value.

    Attributes:
        operator: RNN or Scan.
        x: (T, B, I), as the node gets it.
        h_0: (D, B, H), of a Scan (B, H); zeros where empty.
        lengths: (B,), of a Scan the mask (T, B, 1).
        states: (T, D, B, H), of a Scan (T, B, H).
        last: (D, B, H), of a Scan (B, H).
        weights: every value that may be a weight.
        reverse: a Scan that reads its input from the end.
    """

    operator: str
    x: str
    h_0: str
    lengths: str
    states: str
    last: str
    weights: tuple[str, ...]
    reverse: bool = False


def show_nodes(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[RecurrentNode]]:
    """A copy of the model that outputs what its recurrent nodes compute with, and these in the order of the graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [found for node in copy.graph.node if (found := _recurrent(node)) is not None]
    inferred = shape_inference.infer_shapes(copy).graph.value_info
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred}
    shown = {value.name for value in (*copy.graph.output, *copy.graph.input, *copy.graph.initializer)}
    for node in nodes:
        for name in (node.x, node.h_0, node.lengths, node.states, node.last, *node.weights):
            if name in kinds and name not in shown:
                copy.graph.output.append(onnx.helper.make_tensor_value_info(name, kinds[name], None))
                shown.add(name)
    return copy, nodes


def initializers_of(model: onnx.ModelProto, folder: Path) -> dict[str, NDArray[Any]]:
    """The initializers of the graph and of the bodies of its Scans, which no run puts out.

    Args:
        model: the file.
        folder: where the data file lies that large ones are read from, in place.
    """
    found: dict[str, NDArray[Any]] = {}
    for graph in (model.graph, *(body_of(node) for node in model.graph.node if node.op_type == "Scan")):
        for tensor in graph.initializer:
            outside = tensor.data_location == onnx.TensorProto.EXTERNAL
            found[tensor.name] = read_in_place(tensor, folder) if outside else numpy_helper.to_array(tensor)
    return found


def judge_node(node: RecurrentNode, values: Arrays, cells: Iterable[Cell], asked: str) -> Iterator[Judgement]:
    """Every direction of a node that was recognised, in the precision that the row asks for."""
    x, states, last = values[node.x], values[node.states], values.get(node.last)
    for direction, cell in enumerate(cells):
        if node.operator == "Scan":
            run, reverse, lengths = (x, values[node.h_0], states, last), node.reverse, None
            if node.lengths:
                mask = values[node.lengths][:, :, 0]
                lengths = mask.sum(axis=0)
                # torch draws the reverse direction by turning the input round: then the padding comes first
                if not mask[0].all():
                    run, reverse = (x[::-1], run[1], states[::-1], last), True
        else:
            zeros = np.zeros((x.shape[1], states.shape[3]), states.dtype)
            h_0 = values[node.h_0][direction] if node.h_0 else zeros
            run = x, h_0, states[:, direction], None if last is None else last[direction]
            reverse, lengths = direction == 1, values.get(node.lengths)
        yield judge_cell(cell, *run, asked, reverse=reverse, lengths=lengths)


def _recurrent(node: onnx.NodeProto) -> RecurrentNode | None:
    """The names, where the node is recurrent; outputs that the node does not have get a name."""
    if node.op_type == "RNN":
        x, W, R, B, lengths, h_0 = [*node.input, "", "", ""][:6]
        names = [*node.output, ""][:2]
        del node.output[:]
        node.output.extend(name or f"{names[0] or names[1]}_{index}" for index, name in enumerate(names))
        return RecurrentNode("RNN", x, h_0, lengths, node.output[0], node.output[1], (W, R, B))
    if node.op_type != "Scan":
        return None
    body = body_of(node)
    inputs = dict(zip((value.name for value in body.input), node.input, strict=True))
    kinds = {value.name: value.type.tensor_type.elem_type for value in body.input}
    reals = [name for name in inputs if kinds[name] in _FLOATS]
    masks = [name for name in inputs if kinds[name] == onnx.TensorProto.BOOL]
    if len(reals) != 2 or len(masks) > 1 or len(inputs) > 3 or len(node.output) != 2 or not all(node.output):
        return None
    made = {name for inner in body.node for name in inner.output} | set(inputs)
    captured = {name: None for inner in body.node for name in inner.input if name and name not in made}
    mask = inputs[masks[0]] if masks else ""
    x, h_0, (last, states) = inputs[reals[1]], inputs[reals[0]], node.output
    return RecurrentNode("Scan", x, h_0, mask, states, last, tuple(captured), runs_in_reverse(node))
