"""The frame of the forms with the input's product outside and one Scan per layer and direction over the rest."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from rnn_export.forms import Drawing
from rnn_export.forms._cell import layer_text, row_constants
from rnn_export.forms._hoisting import RESHAPE, SIZE_CONSTANTS, SIZES, input_sizes, product_text
from rnn_export.forms._text import drawn_model, element_type, place_constants
from rnn_export.spec import suffix
from rnn_export.weights import Weights


def hoisted_model(
    weights: Weights, drawing: Drawing, constants: Mapping[str, Any], step: Callable[[str, str], str]
) -> onnx.ModelProto:
    """The model of a form whose step has a text of its own.

    Args:
        weights: of the network.
        drawing: how to draw it.
        constants: the weights that the statements read, by name.
        step: (end, mask) -> statements that make ``h_next{end}`` (B, H) of ``x{end}``, the input's part, and
            ``h{end}``; ``mask`` is the name of bool (B, 1), where the state may change, or empty.
    """
    spec = weights.spec

    def direction_text(layer: int, direction: int) -> str:
        return _direction(weights, layer, direction, drawing.lengths, step)

    layers = [layer_text(spec, layer, direction_text) for layer in range(spec.num_layers)]
    integers = {name: np.array(value, np.int64) for name, value in {**SIZE_CONSTANTS, **input_sizes(spec)}.items()}
    shape = "state_shape = Concat <axis: int = 0> (T_size, B_size, H_size)"
    model = drawn_model(weights, drawing, [SIZES, shape, *layers], {**row_constants(spec), **integers})
    place_constants(model.graph, constants, drawing)
    return model


def _direction(weights: Weights, layer: int, direction: int, lengths: bool, step: Callable[[str, str], str]) -> str:
    spec, real = weights.spec, element_type(weights)
    end, H = suffix(layer, direction), spec.hidden_size
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
      {step(end, f"inside_now{end}" if lengths else "")}
      y{end} = Identity (h_next{end})
    }},
    num_scan_inputs: int = {2 if lengths else 1},
    scan_input_directions: ints = [{directions}],
    scan_output_directions: ints = [{direction}]
  > (start{end}, projected{end}{", inside" if lengths else ""})
  {states}
  last_row{end} = Unsqueeze (last_state{end}, axis_0)"""
