"""``hoisted``: the input's product outside of the loop, at once for all steps; in the Scan only the recurrent one."""

import numpy as np
import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import layer_text, row_constants
from rnn_export.forms._hoisting import (
    LEAST_OPSET,
    RESHAPE,
    SIZE_CONSTANTS,
    SIZES,
    input_sizes,
    product_text,
    recurrent_text,
    split_matrices,
)
from rnn_export.forms._text import drawn_model, element_type, place_constants
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights


@form(
    "hoisted",
    summary="the input's product outside, one Scan per layer and direction over the recurrent one: batches",
    min_opset=LEAST_OPSET,
    constants=split_matrices,
    product="Gemm",
    bfloat16_opset=16,  # as in scan
    rank=3,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec, real = weights.spec, element_type(weights)

    def direction_text(layer: int, direction: int) -> str:
        return _direction(spec, real, layer, direction, drawing.lengths)

    layers = [layer_text(spec, layer, direction_text) for layer in range(spec.num_layers)]
    integers = {name: np.array(value, np.int64) for name, value in {**SIZE_CONSTANTS, **input_sizes(spec)}.items()}
    shape = "state_shape = Concat <axis: int = 0> (T_size, B_size, H_size)"
    model = drawn_model(weights, drawing, [SIZES, shape, *layers], {**row_constants(spec), **integers})
    place_constants(model.graph, split_matrices(weights), drawing)
    return model


def _direction(spec: RNNSpec, real: str, layer: int, direction: int, lengths: bool) -> str:
    end, H = suffix(layer, direction), spec.hidden_size
    step = recurrent_text(spec, end, f"x{end}", f"h{end}", f"h_next{end}", f"inside_now{end}" if lengths else "")
    mask_input = f", bool[B,1] inside_now{end}" if lengths else ""
    directions = ", ".join([str(direction)] * (2 if lengths else 1))
    states = f"states{end} = Where (inside, raw_states{end}, zero)" if lengths else ""
    # A body that lists one value as state and as output is silently wrong in ONNX Runtime: hence Identity.
    return f"""start{end} = Gather <axis: int = 0> (h_0, index{end})
  rows{end} = {RESHAPE} (sequence_{layer}, rows_{layer})
  {product_text(spec, end, f"rows{end}", f"product{end}")}
  projected{end} = {RESHAPE} (product{end}, state_shape)
  last_state{end}, {"raw_" if lengths else ""}states{end} = Scan <
    body: graph = cell{end} ({real}[B,{H}] h{end}, {real}[B,{H}] x{end}{mask_input})
        => ({real}[B,{H}] h_next{end}, {real}[B,{H}] y{end}) {{
      {step}
      y{end} = Identity (h_next{end})
    }},
    num_scan_inputs: int = {2 if lengths else 1},
    scan_input_directions: ints = [{directions}],
    scan_output_directions: ints = [{direction}]
  > (start{end}, projected{end}{", inside" if lengths else ""})
  {states}
  last_row{end} = Unsqueeze (last_state{end}, axis_0)"""
