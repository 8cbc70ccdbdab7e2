"""What an ONNX file itself says: its signature, its weights, its layers, and axes that only look dynamic."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from rnn_export.blocks import blocks
from rnn_export.errors import ArtifactError
from rnn_export.forms import EXTERNAL_ABOVE, FORMS, Form, constants_of
from rnn_export.forms._external import STORED, held_bytes, read_in_place
from rnn_export.forms._inner_layers import reveal_inner_layers
from rnn_export.forms._tidy import graphs
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Head, Weights

_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
LARGEST_FIXED = 2**24  # numbers: 64 MiB in float32, in each of the cases
PRODUCER = "rnn-export"  # only in our own file does the name of a value say what it is
RECURRENT = ("RNN", "Scan", "Loop")


@dataclass(frozen=True)
class Signature:
    """Which names carry what, and the sizes that the file declares as fixed.

    Attributes:
        h_0: None where the file starts from a state of its own.
        h_n: None where the file does not give the last state.
        lengths: the integer input (B,), where there is one.
        prediction: the head's output, where there is one.
        fixed_T, fixed_B: the declared length and batch size where they are not dynamic.
        one_step: the file is one step, input (B, I), and gives the next states as h_n; there is no output then.
        flat_state: h_0 and h_n of such a file are (B, H), as torch.nn.RNNCell has them.
        served: the file is a shipped graph: its states are (B, L*D, H), and its lengths (B, 1).
    """

    input: str
    h_0: str | None
    output: str | None
    h_n: str | None
    batch_first: bool
    lengths: str | None = None
    prediction: str | None = None
    fixed_T: int | None = None
    fixed_B: int | None = None
    one_step: bool = False
    flat_state: bool = False
    served: bool = False


@dataclass(frozen=True)
class LayerOutput:
    """A value of the graph that is the states of one layer.

    Attributes:
        name: the value.
        layer, direction: whose states; direction is None for (T, D, B, H) with all directions.
        reversed_time: the states stand in the order in which they were computed.
    """

    name: str
    layer: int
    direction: int | None
    reversed_time: bool = False


def load_model(path: Path, *, in_place: bool = False) -> onnx.ModelProto:
    """Read and check a file.

    Args:
        path: the file.
        in_place: leave what lies beside the model where it is.

    Raises:
        ArtifactError: it is missing, or not an ONNX model that the checker accepts.
    """
    if not path.is_file():
        what = "is a folder: an artifact needs no --against" if path.is_dir() else "does not exist"
        raise ArtifactError(f"{path} {what}", "Name an ONNX file")
    try:
        model = onnx.load(path, load_external_data=not in_place)
        # The checker writes a model that it is given into one message, which has a limit.
        fits = not in_place and held_bytes(model) <= EXTERNAL_ABOVE
        onnx.checker.check_model(model if fits else str(path))
    except Exception as error:  # protobuf and the checker raise their own types
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtifactError(f"{path} is not a valid ONNX model: {first}", "Export it again") from None
    return model


def signature_of(model: onnx.ModelProto, spec: RNNSpec) -> Signature:
    """Match the file's inputs and outputs with the network's, by their ranks and order.

    Raises:
        ArtifactError: they do not fit the network.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    variable = [value for value in model.graph.input if value.name not in constants]
    lengths = [value.name for value in variable if value.type.tensor_type.elem_type in _INTEGERS]
    inputs = [value for value in variable if value.name not in lengths]
    outputs = [value for value in model.graph.output if value.name != "prediction"]
    H, D = spec.hidden_size, spec.num_directions
    if not inputs or not outputs or len(inputs) > 2 or len(lengths) > 1:
        taken = ", ".join(f"{value.name} (integers)" if value.name in lengths else value.name for value in variable)
        given = ", ".join(value.name for value in outputs)
        raise ArtifactError(
            f"the file takes {taken or 'nothing'} and gives {given or 'nothing'}, but an RNN takes input and perhaps "
            "h_0 and lengths, and gives output and perhaps h_n",
            "A whole model is verified with --against module:factory --trust-code",
        )
    x, h_0 = inputs[0], inputs[1] if len(inputs) == 2 else None
    if len(_dims(x)) == 2:
        return _signature_of_step(inputs, outputs, model, spec)
    y, h_n = outputs[0], outputs[1] if len(outputs) > 1 else None
    dims = _dims(x)
    if len(dims) != 3 or dims[2] not in (None, spec.input_size):
        raise ArtifactError(f"the input {x.name} has shape {dims}, but {spec} takes 3 axes, I = {spec.input_size}")
    for value, width in ((h_0, H), (y, D * H), (h_n, H)):
        if value is not None and (shape := _dims(value)) and (len(shape) != 3 or shape[2] not in (None, width)):
            raise ArtifactError(f"{value.name} has shape {shape}, but {spec} has 3 axes that end with {width}")
    T, B = (dims[1], dims[0]) if spec.batch_first else (dims[0], dims[1])
    _check_fixed_sizes(x.name, T, B, max(spec.input_size, D * H))
    return Signature(
        input=x.name,
        h_0=h_0.name if h_0 is not None else None,
        output=y.name,
        h_n=h_n.name if h_n is not None else None,
        batch_first=spec.batch_first,
        lengths=lengths[0] if lengths else None,
        prediction="prediction" if len(outputs) < len(model.graph.output) else None,
        fixed_T=T,
        fixed_B=B,
    )


def _signature_of_step(
    inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], model: onnx.ModelProto, spec: RNNSpec
) -> Signature:
    """Of a file that is one step: input (B, I), h_0 -> h_n, both (L, B, H), or with one layer (B, H)."""
    H, L = spec.hidden_size, spec.num_layers
    if len(inputs) != 2 or len(outputs) != 1 or spec.bidirectional:
        raise ArtifactError(
            f"the input {inputs[0].name} has 2 axes, so the file is one step, and takes {len(inputs)} arrays and gives "
            f"{len(outputs)}",
            "One step of a network of one direction takes input (B, I) and h_0, and gives h_n",
        )
    x, h_0, h_n = inputs[0], inputs[1], outputs[0]
    state, B = _dims(h_0), _dims(x)[0]
    flat = len(state) == 2 and L == 1
    if _dims(x)[1] not in (None, spec.input_size):
        raise ArtifactError(f"the input {x.name} has shape {_dims(x)}, but {spec} has I = {spec.input_size}")
    for value in (h_0, h_n):
        dims = _dims(value)
        if len(dims) != (2 if flat else 3) or dims[-1] not in (None, H):
            shape = f"(B, {H})" if flat else f"({L}, B, {H})"
            raise ArtifactError(f"{value.name} has shape {dims}, but one step of {spec} has {shape}")
    _check_fixed_sizes(x.name, None, B, max(spec.input_size, H))
    prediction = "prediction" if any(value.name == "prediction" for value in model.graph.output) else None
    return Signature(
        x.name, h_0.name, None, h_n.name, False, prediction=prediction, fixed_B=B, one_step=True, flat_state=flat
    )


def _check_fixed_sizes(name: str, T: int | None, B: int | None, width: int) -> None:
    """A file may declare any number, and every case would be made of that size."""
    fixed = {what: size for what, size in (("length", T), ("batch size", B)) if size is not None}
    said = " and ".join(f"the fixed {what} {size:,}" for what, size in fixed.items())
    if any(size < 1 for size in fixed.values()):
        raise ArtifactError(f"the input {name} has {said}", "Export it with dynamic axes")
    if fixed and math.prod(fixed.values()) * width > LARGEST_FIXED:
        limit = f"more than {LARGEST_FIXED:,} numbers in every case"
        raise ArtifactError(f"the input {name} has {said}: {limit}", "Export it with dynamic axes")


def weight_tensors(model: onnx.ModelProto, folder: Path | None = None) -> dict[str, NDArray[Any]]:
    """Every constant with axes in a type of weights, also those inside bodies; a repeated name gets a mark.

    Args:
        model: the file.
        folder: where it lies, for a model that was loaded in place.
    """
    found: dict[str, NDArray[Any]] = {}
    for graph in graphs(model.graph):
        for name, array in constants_of_graph(graph, folder):
            if array.dtype.name in STORED and array.ndim:
                found[name if name not in found else f"{name} (again)"] = array
    return found


def read_back(
    model: onnx.ModelProto,
    form: Form,
    weights: Weights,
    head: Head | None = None,
    folder: Path | None = None,
    also: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Whether the file holds exactly the form's stated transformation of the weights, bit for bit.

    ``folder`` is where the model lies, if it was loaded in place; ``also`` has constants beside the form's own.

    Returns:
        What is wrong, or an empty string.
    """
    found, expected = weight_tensors(model, folder), {**constants_of(form.name, weights, head), **also}
    for name, array in expected.items():
        if name not in found:
            others = [found[other] for other in expected if other in found]
            merged = not np.asarray(array).any() or any(_same_bits(other, array) for other in others)
            if form.merges_constants and merged:
                continue
            return f"{name} is not in the file"
        if not _same_bits(found[name], array):
            return f"{name} {_difference(found[name], array)}"
    extra = sorted(set(found) - set(expected))
    return f"the file holds {extra[0]}, which the form {form.name} does not have" if extra else ""


def recognise_weights(model: onnx.ModelProto, weights: Weights, folder: Path | None = None) -> str:
    """The form whose transformation of the weights the file holds under names of its own, or empty."""
    found = {_digest(array) for array in weight_tensors(model, folder).values()}
    for form in FORMS:
        if form.quantised is not None:  # it holds another network's
            continue
        if all(_digest(array) in found for array in form.constants(weights).values()):
            return form.name
    return ""


def instrument(model: onnx.ModelProto, spec: RNNSpec) -> tuple[onnx.ModelProto, list[LayerOutput]] | None:
    """A copy that also outputs every layer, or None where the layers cannot be told apart.

    An RNN node shows its layer in output 0 as (T, D, B, H), a Scan or Loop its cell in the last output as (T, B, H),
    in the order of computation unless a Scan itself runs in reverse. The forms that we draw name them.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if model.producer_name == PRODUCER:
        reveal_inner_layers(copy, spec)
    rnns = [node for node in model.graph.node if node.op_type == "RNN"]
    scans = [node for node in model.graph.node if node.op_type in ("Scan", "Loop")]
    values = {name for node in copy.graph.node for name in node.output}
    shown: list[LayerOutput] = []
    named = {name for name in values if re.fullmatch(r"states_l\d+(_reverse)?", name)}
    if model.producer_name == PRODUCER and named == {f"states{suffix(*cell)}" for cell in spec.cells()}:
        shown = [LayerOutput(f"states{suffix(*cell)}", *cell) for cell in spec.cells()]
    elif len(rnns) == spec.num_layers and not scans:
        shown = [LayerOutput(node.output[0], index, None) for index, node in enumerate(rnns)]
    elif len(scans) == len(spec.cells()) and not rnns and (order := _cells_in_order(model.graph, scans, spec)):
        for node, (layer, direction) in zip(order, spec.cells(), strict=True):
            flipped = direction == 1 and not runs_in_reverse(node)
            shown.append(LayerOutput(node.output[-1], layer, direction, flipped))
    if not shown or any(not value.name for value in shown):
        return None
    known = {info.name: info for info in shape_inference.infer_shapes(copy).graph.value_info}
    present = {info.name for info in copy.graph.output}
    for value in shown:
        if value.name not in present:
            if value.name not in known:
                return None
            copy.graph.output.append(known[value.name])
    return copy, shown


def frozen_length(model: onnx.ModelProto, steps: int) -> str:
    """Where a file that declares a dynamic length has the constant that freezes it, in words."""
    top = list(model.graph.node)
    if not top:
        return "the graph has no nodes"
    if not any(node.op_type in RECURRENT for node in top) and len(top) >= steps:
        operator, count = Counter(node.op_type for node in top).most_common(1)[0]
        return f"the loop is unrolled into {len(top)} nodes ({count} {operator}), one copy of the cell per step"
    constants = dict(constants_of_graph(model.graph))
    for node in top:
        for name in node.input:
            if name in constants and constants[name].dtype == np.int64 and steps in constants[name]:
                return f"the constant {name} = {constants[name].tolist()} of {node.op_type} {node.name}".rstrip()
    return "no constant of that size was found"


def constants_of_graph(graph: onnx.GraphProto, folder: Path | None = None) -> Iterator[tuple[str, NDArray[Any]]]:
    """Initializers and Constant nodes of one graph, by the names of their values; without a folder only those in it."""
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            yield tensor.name, numpy_helper.to_array(tensor)
        elif folder is not None:
            yield tensor.name, read_in_place(tensor, folder)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], numpy_helper.to_array(attribute.t)


def _cells_in_order(graph: onnx.GraphProto, scans: list[onnx.NodeProto], spec: RNNSpec) -> list[onnx.NodeProto] | None:
    """The Scans in the order of h_0's rows, which a file need not list them in; None where that is not clear.

    The row is the constant index of the Gather that feeds the Scan's initial state.
    """
    if spec.num_directions == 1 and not any(node.op_type == "Gather" for node in graph.node):
        return scans  # a layer reads the one below it, so the file lists them from below
    constants = dict(constants_of_graph(graph))
    gathers = {node.output[0]: node for node in graph.node if node.op_type == "Gather" and len(node.input) == 2}
    rows: dict[int, onnx.NodeProto] = {}
    for scan in scans:
        gather = gathers.get(scan.input[2 if scan.op_type == "Loop" else 0])
        index = constants.get(gather.input[1]) if gather is not None else None
        if index is None or index.size != 1:
            return None
        rows[int(index.reshape(-1)[0])] = scan
    return [rows[row] for row in sorted(rows)] if sorted(rows) == list(range(len(scans))) else None


def runs_in_reverse(node: onnx.NodeProto) -> bool:
    """Whether a Scan writes its output from the end."""
    return any(item.name == "scan_output_directions" and list(item.ints)[-1:] == [1] for item in node.attribute)


def _dims(value: onnx.ValueInfoProto) -> list[int | None]:
    shape = value.type.tensor_type.shape
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in shape.dim]


def _same_bits(found: NDArray[Any], expected: Any) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    flat, position = found.reshape(-1), 0
    for block in blocks(expected):
        if flat[position : position + block.size].tobytes() != block.tobytes():
            return False
        position += block.size
    return True


def _difference(found: NDArray[Any], expected: Any) -> str:
    array = np.asarray(expected)
    if found.shape != array.shape or found.dtype != array.dtype:
        return f"is {found.dtype}{list(found.shape)}, not {array.dtype}{list(array.shape)}"
    different = np.argwhere(found != array)
    if not len(different):
        return "differs in the sign of a zero"
    place = tuple(int(index) for index in different[0])
    values = f"{found[place]!s} for {array[place]!s}"
    return f"differs from the checkpoint in {len(different)} values, first at {list(place)}: {values}"


def _digest(array: Any) -> tuple[str, tuple[int, ...], str]:
    digest = hashlib.sha256()
    for block in blocks(array):
        digest.update(block.view(np.uint8).data)
    return array.dtype.name, array.shape, digest.hexdigest()
