"""``scan``: the single-matrix cell drawn directly, one Scan per layer and direction, weights in its body."""

from typing import Any

import numpy as np
import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._text import add_initializers, drawn_model, element_type
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


@form(
    "scan",
    summary="the single-matrix cell in one Scan per layer and direction, drawn without torch",
    min_opset=13,  # Unsqueeze takes its axes as an input
    constants=single_matrices,
    product="Gemm",
    bfloat16_opset=16,  # Scan-16 and Where-16 are the first that take it
    rank=2,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec = weights.spec
    layers = [_layer(spec, element_type(weights), layer, drawing.lengths) for layer in range(spec.num_layers)]
    indices = {f"index{suffix(*cell)}": np.array(i, np.int64) for i, cell in enumerate(spec.cells())}
    model = drawn_model(weights, drawing, layers, {**indices, "axis_0": np.array([0], np.int64)})
    constants = single_matrices(weights)
    for node in model.graph.node:
        if node.op_type == "Scan":
            body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
            end = body.name.removeprefix("cell")
            inside = {name: constants[name] for name in (f"matrix{end}", f"bias{end}") if name in constants}
            add_initializers(body, inside, drawing)
    return model


def _layer(spec: RNNSpec, real: str, layer: int, lengths: bool) -> str:
    ends = [suffix(layer, direction) for direction in range(spec.num_directions)]
    lines = [_cell(spec, real, layer, direction, lengths) for direction in range(spec.num_directions)]
    if spec.bidirectional:
        states, lasts = (", ".join(f"{name}{end}" for end in ends) for name in ("states", "last_row"))
        lines.append(f"sequence_{layer + 1} = Concat <axis: int = 2> ({states})")
        lines.append(f"last_{layer} = Concat <axis: int = 0> ({lasts})")
    else:
        lines.append(f"sequence_{layer + 1} = Identity (states{ends[0]})")
        lines.append(f"last_{layer} = Identity (last_row{ends[0]})")
    return "\n  ".join(lines)


def _cell(spec: RNNSpec, real: str, layer: int, direction: int, lengths: bool) -> str:
    end, H, I = suffix(layer, direction), spec.hidden_size, spec.layer_input_size(layer)  # noqa: E741
    bias = f", bias{end}" if spec.bias else ""
    activation = {"tanh": "Tanh", "relu": "Relu", "identity": "Identity"}[spec.nonlinearity]
    # A body that lists one value as state and as output is silently wrong in ONNX Runtime: hence Identity.
    # Where, never a product: a NaN in the padding must not reach the state.
    step = (
        f"""h_new{end} = {activation} (z{end})
      h_next{end} = Where (inside_now{end}, h_new{end}, h{end})"""
        if lengths
        else f"h_next{end} = {activation} (z{end})"
    )
    mask_input = f", bool[B,1] inside_now{end}" if lengths else ""
    directions = ", ".join([str(direction)] * (2 if lengths else 1))
    # The state is masked in the body, the output outside it: a second Where per step would cost more.
    states = f"states{end} = Where (inside, raw_states{end}, zero)" if lengths else ""
    return f"""start{end} = Gather <axis: int = 0> (h_0, index{end})
  last_state{end}, {"raw_" if lengths else ""}states{end} = Scan <
    body: graph = cell{end} ({real}[B,{H}] h{end}, {real}[B,{I}] x{end}{mask_input})
        => ({real}[B,{H}] h_next{end}, {real}[B,{H}] y{end}) {{
      xh{end} = Concat <axis: int = 1> (x{end}, h{end})
      z{end} = Gemm <transB: int = 1> (xh{end}, matrix{end}{bias})
      {step}
      y{end} = Identity (h_next{end})
    }},
    num_scan_inputs: int = {2 if lengths else 1},
    scan_input_directions: ints = [{directions}],
    scan_output_directions: ints = [{direction}]
  > (start{end}, sequence_{layer}{", inside" if lengths else ""})
  {states}
  last_row{end} = Unsqueeze (last_state{end}, axis_0)"""
