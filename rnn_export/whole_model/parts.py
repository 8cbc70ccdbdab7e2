"""The recurrent parts of a whole ONNX file: found, shown in an instrumented copy, and judged by the step residual.

A part is an RNN node or a Scan of one cell. The copy also outputs what goes into the part, what comes out, and the
weights that it computes with, so the question is the verdict's own: is every step what the recurrence says, given the
input and the previous state that this runtime really had? Which layer of the torch model a part is, its weights say,
bit for bit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from rnn_export.forms._tidy import body_of
from rnn_export.precision import name_precision
from rnn_export.residual import Residual, step_residual
from rnn_export.rounding import FLOAT32, FLOAT64
from rnn_export.weights import Cell, Weights

Arrays = Mapping[str, NDArray[Any]]
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True)
class Part:
    """The names of a part's values in the instrumented copy; empty where the part has no such value.

    Attributes:
        operator: RNN or Scan.
        x: (T, B, I), as the part gets it.
        h_0: (D, B, H), of a Scan (B, H); zeros where empty.
        lengths: (B,), of a Scan the mask (T, B, 1).
        states: (T, D, B, H), of a Scan (T, B, H).
        last: (D, B, H), of a Scan (B, H).
        weights: every value that may be a weight.
    """

    operator: str
    x: str
    h_0: str
    lengths: str
    states: str
    last: str
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """One direction of one part in one run."""

    residual: float
    precision: str
    problem: str


def instrument(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Part]]:
    """A copy of the model that outputs what its parts compute with, and the parts in the order of the graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    parts = [part for node in copy.graph.node if (part := _part_of(node)) is not None]
    inferred = shape_inference.infer_shapes(copy).graph.value_info
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred}
    shown = {value.name for value in (*copy.graph.output, *copy.graph.input, *copy.graph.initializer)}
    for part in parts:
        for name in (part.x, part.h_0, part.lengths, part.states, part.last, *part.weights):
            if name in kinds and name not in shown:
                copy.graph.output.append(onnx.helper.make_tensor_value_info(name, kinds[name], None))
                shown.add(name)
    return copy, parts


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The initializers of the graph and of the bodies of its Scans, which no run puts out."""
    found: dict[str, NDArray[Any]] = {}
    for graph in (model.graph, *(body_of(node) for node in model.graph.node if node.op_type == "Scan")):
        found |= {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return found


class Place(NamedTuple):
    """Where a cell is in the torch model."""

    network: str
    layer: int
    direction: int


def cells_of(networks: Mapping[str, Weights]) -> dict[str, Place]:
    """Every cell of the torch model, by the name that reports give it."""
    found = {}
    for network, weights in networks.items():
        for layer, direction in weights.spec.cells():
            name = f"{network} layer {layer}" if weights.spec.num_layers > 1 else network
            found[name + (" in reverse" if direction else "")] = Place(network, layer, direction)
    return found


def recognise(part: Part, values: Arrays, networks: Mapping[str, Weights]) -> list[tuple[str, Cell]]:
    """The cells of the torch model whose weights the part holds, bit for bit.

    Args:
        part: of the instrumented copy.
        values: what a run put out, what went in, and the constants.
        networks: the torch model's recurrent networks by name.

    Returns:
        (name, cell) per direction of an RNN, one of a Scan, or nothing.
    """
    held = [values[name] for name in part.weights if name in values]
    cells = cells_of(networks)
    for name, (network, layer, direction) in cells.items():
        weights = networks[network]
        if part.operator == "Scan":
            if _holds(held, weights.single_matrix(layer, direction)[: 1 + weights.spec.bias]):
                return [(name, weights.cell(layer, direction))]
        elif direction == 0:
            names = [name for name, place in cells.items() if place[:2] == (network, layer)]
            both = [weights.cell(layer, index) for index in range(len(names))]
            if _holds(held, _operator_weights(both, weights.spec.bias)):
                return list(zip(names, both, strict=True))
    return []


def judge(part: Part, values: Arrays, cells: list[tuple[str, Cell]]) -> Iterator[tuple[str, Verdict]]:
    """(name, verdict) of every direction of a part that was recognised."""
    if not cells:
        return
    x, states, last = values[part.x], values[part.states], values[part.last] if part.last else None
    T, B = x.shape[:2]
    if part.operator == "Scan":
        # A Scan that reads in reverse gets its input turned round outside: here it runs forward.
        (name, cell), h_0 = cells[0], values[part.h_0]
        valid = values[part.lengths][:, :, 0] if part.lengths else np.ones((T, B), np.bool_)
        yield name, _judged(cell, x, h_0, states, last, valid, reverse=False)
        return
    lengths = values[part.lengths] if part.lengths else np.full(B, T)
    valid = np.arange(T)[:, None] < lengths
    for direction, (name, cell) in enumerate(cells):
        h_0 = values[part.h_0][direction] if part.h_0 else np.zeros((B, states.shape[3]), states.dtype)
        final = last[direction] if last is not None else None
        yield name, _judged(cell, x, h_0, states[:, direction], final, valid, reverse=direction == 1)


def _judged(
    cell: Cell,
    x: NDArray[np.floating],
    h_0: NDArray[np.floating],
    states: NDArray[np.floating],
    last: NDArray[np.floating] | None,
    valid: NDArray[np.bool_],
    *,
    reverse: bool,
) -> Verdict:
    """Rows of one length are judged together, over their valid steps only."""
    worst, precision, problem = 0.0, "", ""
    for pattern in np.unique(valid, axis=1).T:
        rows = (valid == pattern[:, None]).all(axis=0)
        steps = np.flatnonzero(pattern)
        run = x[np.ix_(steps, rows)], h_0[rows], states[np.ix_(steps, rows)]
        arithmetic = FLOAT64 if states.dtype == np.float64 else FLOAT32
        found = step_residual(cell, *run, reverse=reverse, arithmetic=arithmetic)
        if not precision or not found.passed:
            precision = name_precision(found, cell, *run, reverse=reverse)
        worst = max(worst, found.max_q)
        problem = problem or _problem(found, precision, steps, rows)
        end = run[2][0 if reverse else -1] if len(steps) else run[1]
        if last is not None and not problem and not np.array_equal(last[rows], end, equal_nan=True):
            problem = "the last state is not the state after the last step"
    return Verdict(worst, precision, problem)


def _problem(found: Residual, precision: str, steps: NDArray[Any], rows: NDArray[np.bool_]) -> str:
    place = found.first or found.misplaced
    if place is None:
        return ""
    where = f"first at t={steps[place.t]} b={np.flatnonzero(rows)[place.b]} unit={place.unit}"
    if found.first is None:
        return f"NaN or infinity where IEEE arithmetic has none, {where}"
    return f"residual {found.max_q:.3g} > 4, {where}; this run is {precision}"


def _part_of(node: onnx.NodeProto) -> Part | None:
    """The part, where the node is one; outputs that the node does not have get a name."""
    if node.op_type == "RNN":
        x, W, R, B, lengths, h_0 = [*node.input, "", "", ""][:6]
        names = [*node.output, ""][:2]
        del node.output[:]
        node.output.extend(name or f"{names[0] or names[1]}_{index}" for index, name in enumerate(names))
        return Part("RNN", x, h_0, lengths, node.output[0], node.output[1], (W, R, B))
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
    return Part("Scan", inputs[reals[1]], inputs[reals[0]], mask, node.output[1], node.output[0], tuple(captured))


def _operator_weights(cells: list[Cell], bias: bool) -> list[NDArray[np.floating]]:
    """W (D, H, I), R (D, H, H) and, with biases, B (D, 2*H)."""
    arrays = [np.stack([cell.weight_ih for cell in cells]), np.stack([cell.weight_hh for cell in cells])]
    return [*arrays, np.stack([np.concatenate([cell.bias_ih, cell.bias_hh]) for cell in cells])] if bias else arrays


def _holds(held: list[NDArray[Any]], expected: Any) -> bool:
    return all(any(_same(array, one) or _same(array.T, one) for array in held) for one in expected)


def _same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    same = found.dtype == expected.dtype and found.shape == expected.shape
    return same and np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()
