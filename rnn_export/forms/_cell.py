"""The single-matrix cell as ONNX text, one step h' = act([x, h] @ matrix.T + bias), for the forms that draw it."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from rnn_export.forms import Drawing
from rnn_export.forms._text import activated_text, drawn_model, place_constants
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights


def single_matrices(weights: Weights) -> dict[str, Any]:
    """matrix (H, I+H) = [W_ih | W_hh] and bias (H,) = b_ih + b_hh of every layer and direction."""
    arrays: dict[str, Any] = {}
    for layer, direction in weights.spec.cells():
        end = suffix(layer, direction)
        arrays[f"matrix{end}"], arrays[f"bias{end}"] = weights.joined_matrix(layer, direction)
        if not weights.spec.bias:
            del arrays[f"bias{end}"]
    return arrays


def row_constants(spec: RNNSpec) -> dict[str, Any]:
    """``index{end}``, the row of h_0 that a layer and direction starts from, and ``axis_0``."""
    rows = {f"index{suffix(*cell)}": np.array(row, np.int64) for row, cell in enumerate(spec.cells())}
    return {**rows, "axis_0": np.array([0], np.int64)}


def layer_text(spec: RNNSpec, layer: int, direction_text: Callable[[int, int], str]) -> str:
    """``sequence_{l+1}`` and ``last_{l}`` from what the directions of layer l write.

    ``direction_text(layer, direction)`` makes ``states{end}`` (T, B, H) and ``last_row{end}`` (1, B, H).
    """
    ends = [suffix(layer, direction) for direction in range(spec.num_directions)]
    lines = [direction_text(layer, direction) for direction in range(spec.num_directions)]
    if spec.bidirectional:
        states, lasts = (", ".join(f"{name}{end}" for end in ends) for name in ("states", "last_row"))
        lines.append(f"sequence_{layer + 1} = Concat <axis: int = 2> ({states})")
        lines.append(f"last_{layer} = Concat <axis: int = 0> ({lasts})")
    else:
        lines.append(f"sequence_{layer + 1} = Identity (states{ends[0]})")
        lines.append(f"last_{layer} = Identity (last_row{ends[0]})")
    return "\n  ".join(lines)


def drawn_with_bodies(
    weights: Weights,
    drawing: Drawing,
    direction_text: Callable[[int, int], str],
    before: Sequence[str] = (),
    constants: Mapping[str, Any] = MappingProxyType({}),
) -> onnx.ModelProto:
    """The model of a form whose layers are bodies that hold the single-matrix cell.

    Args:
        weights: of the network.
        drawing: how to draw it.
        direction_text: as in ``layer_text``.
        before: statements that the layers read.
        constants: integers that the statements read, beside ``row_constants``.
    """
    spec = weights.spec
    layers = [layer_text(spec, layer, direction_text) for layer in range(spec.num_layers)]
    integers = {name: np.array(value, np.int64) for name, value in constants.items()}
    model = drawn_model(weights, drawing, [*before, *layers], {**row_constants(spec), **integers})
    place_constants(model.graph, single_matrices(weights), drawing)
    return model


def step_text(spec: RNNSpec, end: str, x: str, h: str, inside: str = "", at: str = "") -> str:
    """Statements that make ``h_next{end}{at}`` (B, H) out of x (B, I) and h (B, H).

    Args:
        spec: the network.
        end: which layer and direction, as in ``matrix{end}``.
        x, h: the names of the step's input and state.
        inside: the name of bool (B, 1), where the state may change; it does everywhere if empty.
        at: what tells the values of several steps in one graph apart.
    """
    mark = f"{end}{at}"
    bias = f", bias{end}" if spec.bias else ""
    lines = [
        f"xh{mark} = Concat <axis: int = 1> ({x}, {h})",
        f"z{mark} = Gemm <transB: int = 1> (xh{mark}, matrix{end}{bias})",
    ]
    lines += activated_text(spec, f"z{mark}", h, f"h_next{mark}", inside, held=f"h_new{mark}")
    return "\n      ".join(lines)
