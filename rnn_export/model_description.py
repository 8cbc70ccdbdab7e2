"""What an ONNX file holds: operators, recurrences, and axes that are dynamic or only say so."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from rnn_export.axes import AxisFinding, probe_axes
from rnn_export.description import SCHEMA, Recurrence
from rnn_export.element_types import FLOATS
from rnn_export.forms._tidy import body_of, graphs
from rnn_export.inspection import constants_of_graph, load_model

OPERATORS = ("RNN", "LSTM", "GRU")
_ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu", "Identity": "identity"}
_OTHERS = ("Sigmoid", "Softplus", "Softsign", "LeakyRelu", "Elu", "HardSigmoid", "Selu", "Gelu", "PRelu", "Clip")


@dataclass(frozen=True)
class Port:
    """An input or output: its name, element type, and axes as numbers, names, or ``?``."""

    name: str
    dtype: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class ModelRecurrence:
    """One recurrent node of the graph, in words, and its recurrent weights where they could be told apart."""

    operator: str
    network: str
    recurrences: tuple[Recurrence, ...] = ()


@dataclass(frozen=True)
class ModelDescription:
    """A whole ONNX file.

    Attributes:
        operators: how often each occurs at the top; ``inside`` the same in the bodies of Scan, Loop and If.
        recurrent: the nodes that carry a state.
        parameters: how many numbers its floating-point constants have.
        axes: what became of every axis that the inputs declare dynamic, see ``probe_axes``.
    """

    file: str
    size: int
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: Mapping[str, int]
    inside: Mapping[str, int]
    recurrent: tuple[ModelRecurrence, ...]
    parameters: int
    axes: tuple[AxisFinding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Schema 1, ready for JSON."""
        return {"schema": SCHEMA, "kind": "onnx", **asdict(self)}

    def lines(self) -> Iterator[str]:
        """What a person reads."""
        opsets = ", ".join(
            f"opset {version}" + (f" of {name}" if name else "") for name, version in self.opsets.items()
        )
        yield f"{self.file}   ONNX, {self.size:,} bytes, {opsets}, IR {self.ir_version}, by {self.producer or 'nobody'}"
        for word, ports in (("input", self.inputs), ("output", self.outputs)):
            for port in ports:
                yield f"{word:11} {port.name}   {port.dtype} [{', '.join(map(str, port.axes))}]"
        yield f"operators   {_counted(self.operators) or 'none'}"
        if self.inside:
            yield f"  in bodies {_counted(self.inside)}"
        yield f"constants   {self.parameters:,} floating-point numbers"
        for node in self.recurrent:
            yield f"recurrent   {node.operator}   {node.network}"
            yield from (f"    {found}" for found in node.recurrences)
        if not self.recurrent:
            yield "recurrent   none: a recurrence here would be unrolled, one copy per step"
        yield from (f"axis        {finding}" for finding in self.axes)


def describe_model(path: Path) -> ModelDescription:
    """Describe an ONNX file; its dynamic axes are tried out in ONNX Runtime, in a child process.

    Raises:
        ArtifactError: the file is missing or not an ONNX model.
    """
    model = load_model(path)
    graph = model.graph
    constants = {name for name, _ in constants_of_graph(graph)}
    inner = Counter(node.op_type for inside in list(graphs(graph))[1:] for node in inside.node)
    arrays = [array for inside in graphs(graph) for _, array in constants_of_graph(inside)]
    return ModelDescription(
        file=path.name,
        size=path.stat().st_size,
        ir_version=model.ir_version,
        opsets={item.domain: item.version for item in model.opset_import},
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        inputs=tuple(_port(value) for value in graph.input if value.name not in constants),
        outputs=tuple(_port(value) for value in graph.output),
        operators=dict(Counter(node.op_type for node in graph.node).most_common()),
        inside=dict(inner.most_common()),
        recurrent=tuple(_recurrent(graph)),
        parameters=sum(array.size for array in arrays if array.dtype.name in FLOATS),
        axes=tuple(probe_axes(model)),
    )


def _counted(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in operators.items())


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else "not a tensor"
    axes = (dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim)
    return Port(value.name, dtype, tuple(axes))


def _recurrent(graph: onnx.GraphProto) -> Iterator[ModelRecurrence]:
    constants = dict(constants_of_graph(graph))
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type in OPERATORS:
            yield _operator(node, constants)
        elif node.op_type in ("Scan", "Loop"):
            body = body_of(node)
            network = ", ".join(f"{name} {count}" for name, count in Counter(n.op_type for n in body.node).items())
            found = _scan_recurrence(node, {**constants, **dict(constants_of_graph(body))})
            yield ModelRecurrence(node.op_type, f"per step: {network}", found)


def _operator(node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> ModelRecurrence:
    said = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    direction = said.get("direction", b"forward").decode()
    words = [f"hidden_size {said.get('hidden_size', '?')}", direction]
    activations = [word.decode() for word in said.get("activations", [])] or (["Tanh"] if node.op_type == "RNN" else [])
    words += activations[:1] if len(set(activations)) == 1 else activations
    if said.get("layout"):
        words.append("layout 1, which ONNX Runtime refuses and OpenVINO ignores")
    if len(node.input) > 4 and node.input[4]:
        words.append("with sequence lengths")
    recurrences = []
    weight = constants.get(node.input[2]) if node.op_type == "RNN" and len(node.input) > 2 else None
    for index, matrix in enumerate(weight if weight is not None and weight.ndim == 3 else []):
        activation = activations[min(index, len(activations) - 1)]
        linear = activation == "Affine" and _is_identity(said)
        known = "identity" if linear else _ACTIVATIONS.get(activation)
        recurrences.append(Recurrence.of(f"{node.input[2]}[{index}]", matrix, known))
    return ModelRecurrence(node.op_type, ", ".join(words), tuple(recurrences))


def _scan_recurrence(node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> tuple[Recurrence, ...]:
    """W_hh of the single-matrix cell, Gemm(Concat(x, h), [W_ih | W_hh]); nothing where the body is another."""
    body = body_of(node)
    state, made = body.input[0].name, {name: inner for inner in body.node for name in inner.output}
    activation = next(
        (_ACTIVATIONS[inner.op_type] for inner in body.node if inner.op_type in ("Tanh", "Relu")), "identity"
    )
    for inner in body.node:
        matrix = constants.get(inner.input[1]) if inner.op_type == "Gemm" else None
        joined = made.get(inner.input[0]) if matrix is not None else None
        if joined is not None and joined.op_type == "Concat" and list(joined.input)[-1] == state and matrix is not None:
            turned = any(item.name == "transB" and item.i for item in inner.attribute)
            rows = matrix if turned else matrix.T
            return (Recurrence.of(f"{inner.input[1]} [W_ih | W_hh]", rows[:, -len(rows) :], activation),)
    return ()


def _is_identity(said: Mapping[str, Any]) -> bool:
    """Affine is alpha * x + beta; ONNX Runtime takes 0 for what is not said."""
    return set(said.get("activation_alpha", ())) == {1.0} and set(said.get("activation_beta", ())) <= {0.0}
