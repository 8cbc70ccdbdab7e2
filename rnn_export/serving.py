"""The graph that is shipped to a server: a form with the batch as axis 0 of everything that goes in and comes out.

Inference servers join requests along axis 0. Where that is time, strangers' steps become one sequence: so every input
and output is turned, by a Transpose around the form and never inside its loop.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rnn_export.errors import UsageError
from rnn_export.forms import FORMS
from rnn_export.forms._tidy import graphs

if TYPE_CHECKING:
    from rnn_export.spec import RNNSpec

STATES = {"none": "stateless", "client": "the client holds the state", "server": "the server holds the state"}
DATATYPES: dict[int, str] = {  # ONNX element type -> the name in the Open Inference Protocol
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.INT64: "INT64",
}
_ONE = "served_one"  # the constant [1]: a size, and an axis
INITIAL_STATE = "initial_state"  # the constant that a graph without the input h_0 starts from, (L*D, 1, H)


@dataclass(frozen=True)
class Tensor:
    """One array on the wire.

    Attributes:
        name: of the graph's input or output.
        datatype: the Open Inference Protocol's: FP32, FP64, FP16, BF16 or INT64.
        shape: without the batch axis, which comes first; -1 where it is dynamic.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Interface:
    """What the shipped graph takes and gives; axis 0 of everything is the batch.

    Attributes:
        inputs: input (T, I), unless ``state`` is "none" h_0 (L*D, H), and where there are lengths, (1,) of each row.
        outputs: output (T, D*H), h_n (L*D, H), and where there is a head, prediction (T, O).
        state: "none": the graph starts from an initial state of its own; "client": the client sends h_0 and gets h_n;
            "server": the server carries h_n to h_0 within a sequence of requests, and clients send no state.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    state: str

    @property
    def sent(self) -> tuple[Tensor, ...]:
        """The inputs that a client sends."""
        return tuple(tensor for tensor in self.inputs if tensor.name != "h_0" or self.state != "server")


def check_shippable(form: str, spec: "RNNSpec", state: str) -> None:
    """Raises UsageError where a form or network cannot be served that way."""
    if FORMS.get(form).length == "step":
        raise UsageError(
            f"form {form!r} is one step, and a server gets sequences",
            "Export another form, such as --form scan: one step is a sequence of length 1",
        )
    if state != "none" and FORMS.get(form).length == "fixed":
        raise UsageError(
            f"form {form!r} has a fixed length, and a sequence that is streamed comes in parts of any",
            "Export another form, such as --form scan, or ship it --stateless",
        )
    if state != "none" and spec.bidirectional:
        raise UsageError(
            "a bidirectional network cannot be streamed: its reverse direction starts at the end", "Ship it --stateless"
        )


def served_model(
    model: onnx.ModelProto, spec: "RNNSpec", state: str, initial_state: NDArray[np.floating]
) -> onnx.ModelProto:
    """A copy of a form's model with the batch first: input (B, T, I), lengths (B, 1), and h_0, h_n (B, L*D, H).

    Servers have no array without axes for each row: hence the second axis of lengths.

    Args:
        model: an artifact's.
        spec: its network.
        state: with "none" h_0 is a constant of the graph; otherwise an input.
        initial_state: (L*D, H), of the weights' type; only a graph of its own state holds it.
    """
    served = onnx.ModelProto()
    served.CopyFrom(model)
    graph = served.graph
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    for value in list(graph.input):
        if value.name == "h_0" and state == "none":
            graph.input.remove(value)
            _rename(graph, "h_0", "h_0_turned")
            before += _constant_state(graph, initial_state)
        elif value.name == "lengths":
            _rename(graph, "lengths", "lengths_turned")
            before.append(helper.make_node("Squeeze", ["lengths", _ONE], ["lengths_turned"]))
            value.type.tensor_type.shape.dim.add().dim_value = 1
        elif _is_turned(value.name, spec):
            _rename(graph, value.name, f"{value.name}_turned")
            before.append(_transpose(value.name, f"{value.name}_turned"))
            _swap_axes(value)
    for value in graph.output:
        if _is_turned(value.name, spec):
            _rename(graph, value.name, f"{value.name}_turned")
            after.append(_transpose(f"{value.name}_turned", value.name))
            _swap_axes(value)
    if any(_ONE in node.input for node in before):
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _ONE))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return served


def interface_of(served: onnx.ModelProto, state: str) -> Interface:
    """What a shipped graph declares."""
    inputs, outputs = (
        tuple(_tensor(value) for value in values) for values in (served.graph.input, served.graph.output)
    )
    return Interface(inputs, outputs, state)


def _is_turned(name: str, spec: "RNNSpec") -> bool:
    """Whether the form has the batch as its second axis: states always, sequences unless the network is batch first."""
    return name in ("h_0", "h_n") or not spec.batch_first


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Wherever the value is made or read, also in bodies, which see the values around them."""
    for inner in graphs(graph):
        for node in inner.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]


def _transpose(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Transpose", [source], [target], perm=[1, 0, 2])


def _swap_axes(value: onnx.ValueInfoProto) -> None:
    shape = value.type.tensor_type.shape
    first, second, *rest = (onnx.TensorShapeProto.Dimension.FromString(dim.SerializeToString()) for dim in shape.dim)
    del shape.dim[:]
    shape.dim.extend([second, first, *rest])


def _constant_state(graph: onnx.GraphProto, initial_state: NDArray[np.floating]) -> list[onnx.NodeProto]:
    """``h_0_turned`` (L*D, B, H) out of a constant, with B read from the input."""
    constants: dict[str, Any] = {
        INITIAL_STATE: initial_state[:, None],
        "served_batch_axis": np.array([0], np.int64),
    }
    for name, array in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return [
        helper.make_node("Shape", ["input"], ["served_shape"]),
        helper.make_node("Gather", ["served_shape", "served_batch_axis"], ["served_batch"]),
        helper.make_node("Concat", [_ONE, "served_batch", _ONE], ["served_state_shape"], axis=0),
        helper.make_node("Expand", [INITIAL_STATE, "served_state_shape"], ["h_0_turned"]),
    ]


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return Tensor(value.name, DATATYPES[tensor.elem_type], tuple(dims[1:]))
