"""``rnn``: the ONNX RNN operator, one node per layer."""

from typing import Any

import numpy as np
import onnx

from rnn_export.blocks import Joined
from rnn_export.forms import Drawing, form
from rnn_export.forms._text import drawn_model
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights


def operator_weights(weights: Weights) -> dict[str, Any]:
    """W (D, H, I), R (D, H, H) and B (D, 2*H) = [b_ih | b_hh] of every layer, as the operator takes them."""
    arrays: dict[str, Any] = {}
    spec = weights.spec
    for layer in range(spec.num_layers):
        cells = [weights.cell(layer, direction) for direction in range(spec.num_directions)]
        arrays[f"W_{layer}"] = Joined([cell.weight_ih[None] for cell in cells], axis=0)
        arrays[f"R_{layer}"] = Joined([cell.weight_hh[None] for cell in cells], axis=0)
        if spec.bias:
            arrays[f"B_{layer}"] = np.stack([np.concatenate([c.bias_ih, c.bias_hh]) for c in cells])
    return arrays


@form(
    "rnn",
    summary="the ONNX RNN operator, one node per layer",
    min_opset=14,  # RNN-14 is the first whose definition every current runtime registers
    constants=operator_weights,
    product="RNN",
    bfloat16_opset=22,  # RNN-22 is the first that takes it
    rank=1,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec = weights.spec
    D = spec.num_directions
    shapes = {
        "axis_0": np.array([0], np.int64),
        "axis_1": np.array([1], np.int64),
        "joined": np.array([0, 0, D * spec.hidden_size], np.int64),
    }
    for layer in range(spec.num_layers + 1):
        shapes[f"row_{layer}"] = np.array([layer * D], np.int64)
    used = {"axis_0", "joined" if spec.bidirectional else "axis_1"}
    used |= {f"row_{layer}" for layer in range(spec.num_layers + 1)}
    layers = [_layer(spec, layer, drawing.lengths) for layer in range(spec.num_layers)]
    constants = {**{name: shapes[name] for name in shapes if name in used}, **operator_weights(weights)}
    return drawn_model(weights, drawing, layers, constants)


def _layer(spec: RNNSpec, layer: int, lengths: bool) -> str:
    activation = {"tanh": "Tanh", "relu": "Relu", "identity": "Affine"}[spec.nonlinearity]
    names = ", ".join([f'"{activation}"'] * spec.num_directions)
    bias = f"B_{layer}" if spec.bias else ""
    ones, zeros = (", ".join([number] * spec.num_directions) for number in ("1.0", "0.0"))
    # ONNX gives Affine no default for alpha and beta, and ONNX Runtime takes 0 for both
    affine = f",\n    activation_alpha: floats = [{ones}],\n    activation_beta: floats = [{zeros}]"
    affine = affine if spec.nonlinearity == "identity" else ""
    cut = f"lengths_{layer}" if lengths else ""
    # (T, D, B, H) -> (T, B, D*H); with one direction a Squeeze of the axis D is enough
    join = (
        f"""turned_{layer} = Transpose <perm: ints = [0, 2, 1, 3]> (Y_{layer})
  sequence_{layer + 1} = Reshape (turned_{layer}, joined)"""
        if spec.bidirectional
        else f"sequence_{layer + 1} = Squeeze (Y_{layer}, axis_1)"
    )
    cast = f"lengths_{layer} = Cast <to: int = {onnx.TensorProto.INT32}> (lengths)\n  " if lengths else ""
    return f"""{cast}start_{layer} = Slice (h_0, row_{layer}, row_{layer + 1}, axis_0)
  Y_{layer}, last_{layer} = RNN <
    hidden_size: int = {spec.hidden_size},
    direction: string = "{"bidirectional" if spec.bidirectional else "forward"}",
    activations: strings = [{names}]{affine}
  > (sequence_{layer}, W_{layer}, R_{layer}, {bias}, {cut}, start_{layer})
  {join}"""
