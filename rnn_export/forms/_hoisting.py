"""What the forms share in which the input has a product of its own, apart from the recurrent one."""

from collections.abc import Sequence
from typing import Any

from rnn_export.forms._text import activated_text
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights

LEAST_OPSET = 14  # Reshape-14 is the first with allowzero: a batch of 0 rows is a size, and no "as it was"
SIZES = """sizes = Shape (sequence_0)
  T_size = Slice (sizes, axis_0, axis_1, axis_0)
  B_size = Slice (sizes, axis_1, axis_2, axis_0)"""
SIZE_CONSTANTS = {"axis_1": [1], "axis_2": [2]}
RESHAPE = "Reshape <allowzero: int = 1>"


def split_matrices(weights: Weights) -> dict[str, Any]:
    """W (H, I), R (H, H) and B (H,) = b_ih + b_hh of every layer and direction."""
    arrays: dict[str, Any] = {}
    for layer, direction in weights.spec.cells():
        end, cell = suffix(layer, direction), weights.cell(layer, direction)
        arrays[f"W{end}"], arrays[f"R{end}"] = cell.weight_ih, cell.weight_hh
        if weights.spec.bias:
            arrays[f"B{end}"] = cell.bias_ih + cell.bias_hh
    return arrays


def product_text(spec: RNNSpec, end: str, rows: str, product: str) -> str:
    """The input's part of every step: ``product`` (N, H) of ``rows`` (N, I), bias included."""
    bias = f", B{end}" if spec.bias else ""
    return f"{product} = Gemm <transB: int = 1> ({rows}, W{end}{bias})"


def recurrent_text(spec: RNNSpec, end: str, x: str, h: str, new: str, inside: str = "") -> str:
    """Statements that make the state ``new`` (B, H) of the input's part ``x`` (B, H) and the state ``h`` (B, H).

    A Gemm of two axes that adds x as its C: ONNX Runtime makes one operator of it and the activation.

    Args:
        spec: the network.
        end: which layer and direction.
        x, h, new: names of values.
        inside: the name of bool (B, 1), where the state may change; it does everywhere if empty.
    """
    product = f"z_{new} = Gemm <transB: int = 1> ({h}, R{end}, {x})"
    return "\n      ".join([product, *activated_text(spec, f"z_{new}", h, new, inside, held=f"a_{new}")])


def input_sizes(spec: RNNSpec) -> dict[str, list[int]]:
    """``rows_{l}``, the shape of layer l's input as rows, and ``H_size``."""
    widths = {f"rows_{layer}": [-1, spec.layer_input_size(layer)] for layer in range(spec.num_layers)}
    return {**widths, "H_size": [spec.hidden_size]}


def parts_text(opset: int, names: Sequence[str], value: str, axis: int) -> str:
    """Statements that split a value into as many equal parts: by their number, where B is a factor of the axis."""
    number = f", num_outputs: int = {len(names)}" if opset >= 18 else ""  # Split-18 asks for it, none before knows it
    return f"{', '.join(names)} = Split <axis: int = {axis}{number}> ({value})"
