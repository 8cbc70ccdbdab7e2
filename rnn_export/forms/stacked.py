"""``stacked``: all layers in one Scan, or both directions of a layer, and nothing held beside input and output.

The input's product is made in the body, step by step: every way to make it ahead, or to compute several steps in an
iteration, holds as much as the output once more (docs/decisions/0012).
"""

from typing import NamedTuple

import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import row_constants
from rnn_export.forms._hoisting import product_text, recurrent_text, split_matrices
from rnn_export.forms._text import drawn_model, element_type, place_constants
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights


class _Group(NamedTuple):
    """What one Scan computes: of one direction all layers, of two directions both of one layer."""

    layers: tuple[int, ...]
    directions: tuple[int, ...]

    @property
    def ends(self) -> list[str]:
        return [suffix(layer, direction) for layer in self.layers for direction in self.directions]

    @property
    def shown(self) -> list[str]:
        """The layer and directions whose states leave the Scan."""
        return [suffix(self.layers[-1], direction) for direction in self.directions]


@form(
    "stacked",
    summary="all layers in one Scan, or both directions of a layer: nothing is held beside input and output",
    min_opset=13,  # Unsqueeze takes its axes as an input
    constants=split_matrices,
    product="Gemm",
    bfloat16_opset=16,  # as in scan
    rank=4,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec, real = weights.spec, element_type(weights)
    groups = [_Group((layer,), (0, 1)) for layer in range(spec.num_layers)]
    if not spec.bidirectional:
        groups = [_Group(tuple(range(spec.num_layers)), (0,))]
    layers = [_group(spec, real, group, drawing.lengths) for group in groups]
    model = drawn_model(weights, drawing, layers, row_constants(spec))
    place_constants(model.graph, split_matrices(weights), drawing)
    return model


def _group(spec: RNNSpec, real: str, group: _Group, lengths: bool) -> str:
    bottom, top, ends, shown = group.layers[0], group.layers[-1], group.ends, group.shown
    lines = [f"start{end} = Gather <axis: int = 0> (h_0, index{end})" for end in ends]
    lines.append(_scan(spec, real, group, lengths))
    lines += [f"states{end} = Where (inside, raw_states{end}, zero)" for end in shown if lengths]
    lines += [f"last_row{end} = Unsqueeze (last_state{end}, axis_0)" for end in ends]
    if spec.bidirectional:
        for name, parts, axis in ((f"sequence_{top + 1}", "states", 2), (f"last_{bottom}", "last_row", 0)):
            lines.append(f"{name} = Concat <axis: int = {axis}> ({', '.join(parts + end for end in ends)})")
    else:
        lines += [f"last_{layer} = Identity (last_row{end})" for layer, end in zip(group.layers, ends, strict=True)]
        lines.append(f"sequence_{top + 1} = Identity (states{shown[0]})")
    return "\n  ".join(lines)


def _scan(spec: RNNSpec, real: str, group: _Group, lengths: bool) -> str:
    bottom, H, ends, shown = group.layers[0], spec.hidden_size, group.ends, group.shown
    lines = []
    for direction in group.directions:
        below = f"x_{bottom}_{direction}"
        for layer in group.layers:
            end = suffix(layer, direction)
            mask = f"inside_now_{bottom}_{direction}" if lengths else ""
            lines.append(product_text(spec, end, below, f"product{end}"))
            lines.append(recurrent_text(spec, end, f"product{end}", f"h{end}", f"h_next{end}", mask))
            below = f"h_next{end}"
        # A body that lists one value as state and as output is silently wrong in ONNX Runtime: hence Identity.
        lines.append(f"y{end} = Identity ({below})")
    ways = [str(direction) for direction in group.directions]
    inputs = [f"{real}[B,{spec.layer_input_size(bottom)}] x_{bottom}_{way}" for way in ways]
    inputs += [f"bool[B,1] inside_now_{bottom}_{way}" for way in ways if lengths]
    states = [f"{real}[B,{H}] h{end}" for end in ends]
    made = [*(f"{real}[B,{H}] h_next{end}" for end in ends), *(f"{real}[B,{H}] y{end}" for end in shown)]
    given = [*(f"last_state{end}" for end in ends), *(f"{'raw_' if lengths else ''}states{end}" for end in shown)]
    fed = [f"sequence_{bottom}"] * len(ways) + ["inside"] * len(ways) * lengths
    body = "\n      ".join(lines)
    return f"""{", ".join(given)} = Scan <
    body: graph = cells_{bottom} ({", ".join([*states, *inputs])})
        => ({", ".join(made)}) {{
      {body}
    }},
    num_scan_inputs: int = {len(inputs)},
    scan_input_directions: ints = [{", ".join(ways * (2 if lengths else 1))}],
    scan_output_directions: ints = [{", ".join(ways)}]
  > ({", ".join([*(f"start{end}" for end in ends), *fed])})"""
