"""``int8``: as ``hoisted``, with recurrent weights of 8 bits and the state rounded to 8 bits at every product.

It computes another network than the checkpoint's: its recurrent weights, dequantised, in a product of integers. The
operator is ONNX Runtime's own, MatMulNBits of the domain com.microsoft, which OpenVINO reads too.
"""

import numpy as np
import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import layer_text, row_constants
from rnn_export.forms._hoisting import LEAST_OPSET, RESHAPE, SIZE_CONSTANTS, SIZES, input_sizes, product_text
from rnn_export.forms._quantisation import computed_network, split_matrices
from rnn_export.forms._text import drawn_model, place_constants
from rnn_export.quantised_state import BLOCK
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights

DOMAIN = "com.microsoft"
# accuracy_level 4 multiplies integers; without it the weights are made float32 at every step, 10 to 100 times slower
PRODUCT = f"{DOMAIN}.MatMulNBits <bits: int = 8, block_size: int = {BLOCK}, accuracy_level: int = 4"


@form(
    "int8",
    summary="as hoisted with 8-bit recurrent weights, another network: batch 1 and 512 units or more, ONNX Runtime",
    min_opset=LEAST_OPSET,
    constants=split_matrices,
    product="MatMulNBits",
    bfloat16_opset=LEAST_OPSET,  # it takes float32 alone
    rank=99,  # nothing chooses it: see quantised
    quantised=computed_network,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec = weights.spec

    def direction_text(layer: int, direction: int) -> str:
        return _direction(spec, layer, direction, drawing.lengths)

    layers = [layer_text(spec, layer, direction_text) for layer in range(spec.num_layers)]
    integers = {name: np.array(value, np.int64) for name, value in {**SIZE_CONSTANTS, **input_sizes(spec)}.items()}
    shape = "state_shape = Concat <axis: int = 0> (T_size, B_size, H_size)"
    model = drawn_model(weights, drawing, [SIZES, shape, *layers], {**row_constants(spec), **integers})
    place_constants(model.graph, split_matrices(weights), drawing)
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return model


def _direction(spec: RNNSpec, layer: int, direction: int, lengths: bool) -> str:
    end, H = suffix(layer, direction), spec.hidden_size
    activation = {"tanh": "Tanh", "relu": "Relu", "identity": "Identity"}[spec.nonlinearity]
    step = f"h_next{end} = {activation} (z{end})"
    if lengths:
        # Where, never a product: a NaN in the padding must not reach the state.
        step = f"h_new{end} = {activation} (z{end})\n      h_next{end} = Where (inside_now{end}, h_new{end}, h{end})"
    mask_input = f", bool[B,1] inside_now{end}" if lengths else ""
    directions = ", ".join([str(direction)] * (2 if lengths else 1))
    states = f"states{end} = Where (inside, raw_states{end}, zero)" if lengths else ""
    # A body that lists one value as state and as output is silently wrong in ONNX Runtime: hence Identity.
    return f"""start{end} = Gather <axis: int = 0> (h_0, index{end})
  rows{end} = {RESHAPE} (sequence_{layer}, rows_{layer})
  {product_text(spec, end, f"rows{end}", f"product{end}")}
  projected{end} = {RESHAPE} (product{end}, state_shape)
  last_state{end}, {"raw_" if lengths else ""}states{end} = Scan <
    body: graph = cell{end} (float[B,{H}] h{end}, float[B,{H}] x{end}{mask_input})
        => (float[B,{H}] h_next{end}, float[B,{H}] y{end}) {{
      hR{end} = {PRODUCT}, K: int = {H}, N: int = {H}> (h{end}, R{end}, R_scale{end})
      z{end} = Add (hR{end}, x{end})
      {step}
      y{end} = Identity (h_next{end})
    }},
    num_scan_inputs: int = {2 if lengths else 1},
    scan_input_directions: ints = [{directions}],
    scan_output_directions: ints = [{direction}]
  > (start{end}, projected{end}{", inside" if lengths else ""})
  {states}
  last_row{end} = Unsqueeze (last_state{end}, axis_0)"""
