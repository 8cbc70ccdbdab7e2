"""Which layer of the torch model a recurrent node of the file is: its weights say so, bit for bit."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.weights import Cell, Weights
from rnn_export.whole_model.recurrent_nodes import Arrays, RecurrentNode


class ModelCell(NamedTuple):
    """One layer in one direction of one of the model's recurrent networks, which is named as in ``named_modules``."""

    network: str
    layer: int
    direction: int
    bias: bool
    cell: Cell


def cells_of(networks: Mapping[str, Weights]) -> dict[str, ModelCell]:
    """Every cell of the torch model, by the name that reports give it."""
    found = {}
    for network, weights in networks.items():
        for layer, direction in weights.spec.cells():
            name = network or "the model"
            name += f" layer {layer}" if weights.spec.num_layers > 1 else ""
            name += " in reverse" if direction else ""
            found[name] = ModelCell(network, layer, direction, weights.spec.bias, weights.cell(layer, direction))
    return found


def recognise(node: RecurrentNode, values: Arrays, cells: Mapping[str, ModelCell]) -> list[str]:
    """The names of the cells whose weights the node holds, bit for bit: per direction of an RNN, one of a Scan.

    Args:
        node: of the instrumented copy.
        values: what a run put out, what went in, and the constants.
        cells: of the torch model.
    """
    held = [values[name] for name in node.weights if name in values]
    for name, place in cells.items():
        if node.operator == "Scan":
            if any(_holds(held, weights) for weights in _scan_weights(place)):
                return [name]
        elif place.direction == 0:
            layer = {other: cell for other, cell in cells.items() if cell[:2] == place[:2]}
            if _holds(held, _operator_weights(list(layer.values()))):
                return list(layer)
    return []


def same_cell(one: Cell, other: Cell) -> bool:
    """Whether two cells compute the same, bit for bit: a file holds equal weights once."""
    return one.nonlinearity == other.nonlinearity and all(map(_same, one[:4], other[:4]))


def _operator_weights(layer: list[ModelCell]) -> list[NDArray[np.floating]]:
    """W (D, H, I), R (D, H, H) and, with biases, B (D, 2*H)."""
    cells = [place.cell for place in layer]
    arrays = [np.stack([cell.weight_ih for cell in cells]), np.stack([cell.weight_hh for cell in cells])]
    biases = np.stack([np.concatenate([cell.bias_ih, cell.bias_hh]) for cell in cells])
    return [*arrays, biases] if layer[0].bias else arrays


def _scan_weights(place: ModelCell) -> list[list[NDArray[np.floating]]]:
    """What a Scan of the cell may hold: one matrix and one bias, or two of each."""
    cell = place.cell
    one = [np.concatenate([cell.weight_ih, cell.weight_hh], axis=1), cell.bias_ih + cell.bias_hh]
    two = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    return [one, two] if place.bias else [one[:1], two[:2]]


def _holds(held: list[NDArray[Any]], expected: Any) -> bool:
    return all(any(_same(array, one) or _same(array.T, one) for array in held) for one in expected)


def _same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    same = found.dtype == expected.dtype and found.shape == expected.shape
    return same and np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()
