"""Faults of the graph in the file: every number in it is right, and it computes something else.

Each edit changes a correct model of any form in place and says whether it could.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from faults.nets import Net
from rnn_export.forms._tidy import body_of, graphs
from rnn_export.inspection import RECURRENT

Edit = Callable[[onnx.ModelProto, Net], bool]
KINDS: dict[str, Edit] = {}


def kind(name: str) -> Callable[[Edit], Edit]:
    """Register the function under it as a fault."""

    def register(edit: Edit) -> Edit:
        KINDS[name] = edit
        return edit

    return register


def graph_faults(net: Net, correct: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """(kind, model with that fault) for every fault that this network's graph can have."""
    for name, edit in KINDS.items():
        model = onnx.ModelProto()
        model.CopyFrom(correct)
        if edit(model, net):
            yield name, model


@kind("activation exchanged")
def _exchange_activation(model: onnx.ModelProto, _net: Net) -> bool:
    other = {"Tanh": "Relu", "Relu": "Tanh"}
    for graph in graphs(model.graph):
        for node in graph.node:
            node.op_type = other.get(node.op_type, node.op_type)
            if node.op_type == "RNN":
                names = [other[name.decode()] for name in _attribute(node, "activations").strings]
                _set(node, "activations", names)
    return True


@kind("h_0 ignored")
def _ignore_h_0(model: onnx.ModelProto, _net: Net) -> bool:
    _after_input(model, "h_0", "Sub", ["h_0", "h_0"])
    return True


@kind("direction reversed")
def _reverse_direction(model: onnx.ModelProto, net: Net) -> bool:
    if net.spec.bidirectional:
        return False
    node = next(node for node in model.graph.node if node.op_type in RECURRENT)
    if node.op_type == "RNN":
        _set(node, "direction", "reverse")
    else:
        _set(node, "scan_input_directions", [1])
        _set(node, "scan_output_directions", [1])
    return True


@kind("bias not wired")
def _cut_bias(model: onnx.ModelProto, net: Net) -> bool:
    if not net.spec.bias:
        return False
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.op_type == "Gemm":
                del node.input[2]
            elif node.op_type == "RNN":
                node.input[3] = ""
    return True


@kind("state not carried")
def _keep_first_state(model: onnx.ModelProto, _net: Net) -> bool:
    scans = [node for node in model.graph.node if node.op_type == "Scan"]
    for node in scans:
        body = body_of(node)
        next(item for item in body.node if body.output[0].name in item.output).output[0] = "moved"
        for item in body.node:
            for index, name in enumerate(item.input):
                if name == body.output[0].name:
                    item.input[index] = "moved"
        body.node.append(helper.make_node("Identity", [body.input[0].name], [body.output[0].name]))
    return bool(scans)


@kind("length frozen")
def _freeze_length(model: onnx.ModelProto, net: Net) -> bool:
    axis = 1 if net.spec.batch_first else 0
    slices = {"starts": [0], "ends": [net.T - 1], "axes": [axis]}
    _after_input(model, "input", "Slice", ["input", *_constants(model, slices)])
    return True


@kind("input off by one step")
def _shift_input(model: onnx.ModelProto, net: Net) -> bool:
    """Step t reads what belongs to step t + 1, and the last step reads the first input."""
    axis = 1 if net.spec.batch_first else 0
    names = _constants(model, {"zero": [0], "one": [1], "end": [np.iinfo(np.int64).max], "axes": [axis]})
    zero, one, end, axes = names
    later = helper.make_node("Slice", ["input", one, end, axes], ["later"])
    first = helper.make_node("Slice", ["input", zero, one, axes], ["first"])
    _after_input(model, "input", "Concat", ["later", "first"], [later, first], axis=axis)
    return True


@kind("batch_first misread")
def _misread_batch_first(model: onnx.ModelProto, _net: Net) -> bool:
    """The memory of (T, B, I) read as (B, T, I), or the other way round."""
    shape = helper.make_node("Shape", ["input"], ["shape"])
    turned = helper.make_node("Transpose", ["input"], ["turned"], perm=[1, 0, 2])
    _after_input(model, "input", "Reshape", ["turned", "shape"], [shape, turned])
    return True


@kind("batch rows mixed after the last layer")
def _mix_rows(model: onnx.ModelProto, net: Net) -> bool:
    order = _constants(model, {"order": list(np.roll(np.arange(net.B), 1))})
    _before_output(model, "output", "Gather", order, axis=0 if net.spec.batch_first else 1)
    return True


@kind("directions joined in the wrong order")
def _join_wrongly(model: onnx.ModelProto, net: Net) -> bool:
    if not net.spec.bidirectional:
        return False
    H = net.spec.hidden_size
    order = _constants(model, {"order": [*range(H, 2 * H), *range(H)]})
    _before_output(model, "output", "Gather", order, axis=2)
    return True


@kind("h_n in the wrong order")
def _reorder_h_n(model: onnx.ModelProto, net: Net) -> bool:
    rows = len(net.spec.cells())
    order = _constants(model, {"order": list(range(rows))[::-1]})
    _before_output(model, "h_n", "Gather", order, axis=0)
    return rows > 1


@kind("some units scaled after the last layer")
def _scale_units(model: onnx.ModelProto, net: Net) -> bool:
    factors = np.ones(net.spec.num_directions * net.spec.hidden_size, np.float32)
    factors[:: net.spec.hidden_size // 2] += 1e-3
    _before_output(model, "output", "Mul", _constants(model, {"factors": factors}))
    return True


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(attribute for attribute in node.attribute if attribute.name == name)


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    _attribute(node, name).CopyFrom(helper.make_attribute(name, value))


def _constants(model: onnx.ModelProto, arrays: dict[str, Any]) -> list[str]:
    for name, values in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), f"planted_{name}"))
    return [f"planted_{name}" for name in arrays]


def _after_input(
    model: onnx.ModelProto,
    name: str,
    operator: str,
    inputs: Sequence[str],
    before: Sequence[onnx.NodeProto] = (),
    **attributes: Any,
) -> None:
    """Let everything that reads the model's input read that operator's output instead."""
    for graph in graphs(model.graph):
        for node in graph.node:
            for index, read in enumerate(node.input):
                if read == name:
                    node.input[index] = f"planted_{name}"
    nodes = [*before, helper.make_node(operator, inputs, [f"planted_{name}"], **attributes)]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])


def _before_output(model: onnx.ModelProto, name: str, operator: str, inputs: Sequence[str], **attributes: Any) -> None:
    """Let that operator work on what was the model's output."""
    for node in model.graph.node:
        for index, written in enumerate(node.output):
            if written == name:
                node.output[index] = f"right_{name}"
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = f"right_{name}"
    model.graph.node.append(helper.make_node(operator, [f"right_{name}", *inputs], [name], **attributes))
