"""``blocked``: as hoisted, four steps in every iteration of the Scan, and both directions of a layer in the same one.

An iteration costs ONNX Runtime about as much as a small product does: docs/decisions/0012. The four steps of an
iteration are four inputs and four outputs of the Scan, which writes every output where it stays. The length is filled
up to a multiple of four behind the last step that a direction makes, so that nothing real depends on what is computed
there.
"""

from collections.abc import Iterator

import numpy as np
import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import row_constants
from rnn_export.forms._hoisting import (
    LEAST_OPSET,
    RESHAPE,
    SIZE_CONSTANTS,
    SIZES,
    input_sizes,
    parts_text,
    product_text,
    recurrent_text,
    split_matrices,
)
from rnn_export.forms._text import drawn_model, element_type, place_constants
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights

STEPS = 4  # in an iteration: 8 and 16 were no faster at any size, 2 were slower (docs/decisions/0012)
# Behind the end for the direction that reads forwards, before the start for the other one.
_FILLING = """T_negative = Sub (axis_0, T_size)
  fill = Mod (T_negative, block)
  T_filled = Add (T_size, fill)
  blocks = Div (T_filled, block)
  T_end = Add (fill, T_size)
  block_rows = Mul (block, B_size)
  blocks_shape = Concat <axis: int = 0> (blocks, block_rows, H_size)
  state_shape = Concat <axis: int = 0> (T_size, B_size, H_size)
  filled_shape = Concat <axis: int = 0> (T_filled, B_size, H_size)
  fill_after = Concat <axis: int = 0> (no_fill_3, fill, no_fill_2)"""
_FILLING_REVERSE = "fill_before = Concat <axis: int = 0> (fill, no_fill_2, no_fill_3)"


@form(
    "blocked",
    summary="as hoisted, four steps in each iteration of one Scan per layer, both directions in it: streams",
    min_opset=LEAST_OPSET,
    constants=split_matrices,
    product="Gemm",
    bfloat16_opset=16,  # as in scan
    rank=2,
    block=STEPS,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec, real = weights.spec, element_type(weights)
    integers: dict[str, int | list[int]] = {"block": [STEPS], "no_fill_2": [0, 0], "no_fill_3": [0, 0, 0]}
    integers |= {"last_index": -1, **({"first_index": 0} if spec.bidirectional else {})}
    integers |= {**SIZE_CONSTANTS, **input_sizes(spec)}
    before = [SIZES, _FILLING, *([_FILLING_REVERSE] if spec.bidirectional else [])]
    if drawing.lengths:
        before += ["mask_shape = Concat <axis: int = 0> (blocks, block_rows, axis_1)", *_masks(spec, drawing.opset)]
    layers = [_layer(spec, real, layer, drawing) for layer in range(spec.num_layers)]
    constants = {**row_constants(spec), **{name: np.array(value, np.int64) for name, value in integers.items()}}
    model = drawn_model(weights, drawing, [*before, *layers], constants)
    place_constants(model.graph, split_matrices(weights), drawing)
    return model


def _masks(spec: RNNSpec, opset: int) -> Iterator[str]:
    for direction in range(spec.num_directions):
        way = _way(direction)
        yield f"inside_filled{way} = Pad (inside, fill_{way or 'after'})"
        yield _split(f"inside_filled{way}", f"inside{way}", "mask_shape", opset)


def _way(direction: int) -> str:
    return "before" if direction else ""


def _split(filled: str, name: str, shape: str, opset: int) -> str:
    """``name_0`` ... (T/4, B, ...) of what was filled up: every fourth step of it each."""
    parts = [f"{name}_{k}" for k in range(STEPS)]
    return f"{name}_blocks = {RESHAPE} ({filled}, {shape})\n  " + parts_text(opset, parts, f"{name}_blocks", 1)


def _layer(spec: RNNSpec, real: str, layer: int, drawing: Drawing) -> str:
    ends = [suffix(layer, direction) for direction in range(spec.num_directions)]
    lines = [f"layer_rows_{layer} = {RESHAPE} (sequence_{layer}, rows_{layer})"]
    for direction, end in enumerate(ends):
        lines += [
            f"start{end} = Gather <axis: int = 0> (h_0, index{end})",
            product_text(spec, end, f"layer_rows_{layer}", f"product{end}"),
            f"projected{end} = {RESHAPE} (product{end}, state_shape)",
            f"filled{end} = Pad (projected{end}, fill_{_way(direction) or 'after'})",
            _split(f"filled{end}", f"x{end}", "blocks_shape", drawing.opset),
        ]
    lines.append(_scan(spec, real, layer, drawing.lengths))
    for direction, end in enumerate(ends):
        first, end_at = ("fill", "T_end") if direction else ("axis_0", "T_size")
        raw = f"raw_states{end}" if drawing.lengths else f"states{end}"
        lines += [
            f"y{end}_blocks = Concat <axis: int = 1> ({', '.join(f'y{end}_{k}' for k in range(STEPS))})",
            f"y{end}_filled = {RESHAPE} (y{end}_blocks, filled_shape)",
            f"{raw} = Slice (y{end}_filled, {first}, {end_at}, axis_0)",
            *([f"states{end} = Where (inside, {raw}, zero)"] if drawing.lengths else []),
            f"last_step{end} = Gather <axis: int = 0> ({raw}, {'first_index' if direction else 'last_index'})",
            f"last_row{end} = Unsqueeze (last_step{end}, axis_0)",
        ]
    for name, joined, axis in (("sequence", "states", 2), ("last", "last_row", 0)):
        parts = ", ".join(f"{joined}{end}" for end in ends)
        operator = f"Concat <axis: int = {axis}>" if spec.bidirectional else "Identity"
        lines.append(f"{name}_{layer + (name == 'sequence')} = {operator} ({parts})")
    return "\n  ".join(lines)


def _scan(spec: RNNSpec, real: str, layer: int, lengths: bool) -> str:
    """One Scan for the layer; each direction makes its steps of the iteration in its own order."""
    H, directions = spec.hidden_size, range(spec.num_directions)
    ends = [suffix(layer, direction) for direction in directions]
    lines, inputs, outputs, ways = [], [], [], []
    for direction, end in enumerate(ends):
        h, order = f"h{end}", list(range(STEPS))
        order = order[::-1] if direction else order
        for k in order:
            new, mask = f"s{end}_{k}", f"m{end}_{k}" if lengths else ""
            lines.append(recurrent_text(spec, end, f"v{end}_{k}", h, new, mask))
            h = new
        # A body that lists one value as state and as output is silently wrong in ONNX Runtime: hence Identity.
        lines += [f"last_h{end} = Identity ({h})"]
        ways += [str(direction)] * STEPS
        inputs += [f"{real}[B,{H}] v{end}_{k}" for k in range(STEPS)]
        outputs += [f"{real}[B,{H}] s{end}_{k}" for k in range(STEPS)]
    fed = [f"x{end}_{k}" for end in ends for k in range(STEPS)]
    if lengths:
        inputs += [f"bool[B,1] m{end}_{k}" for end in ends for k in range(STEPS)]
        fed += [f"inside{_way(direction)}_{k}" for direction in directions for k in range(STEPS)]
    input_ways = ways * (2 if lengths else 1)
    made = [f"y{end}_{k}" for end in ends for k in range(STEPS)]
    states = ", ".join(f"{real}[B,{H}] h{end}" for end in ends)
    lasts = ", ".join(f"{real}[B,{H}] last_h{end}" for end in ends)
    body = "\n      ".join(lines)
    return f"""{", ".join(f"unused{end}" for end in ends)}, {", ".join(made)} = Scan <
    body: graph = layer_{layer} ({states}, {", ".join(inputs)})
        => ({lasts}, {", ".join(outputs)}) {{
      {body}
    }},
    num_scan_inputs: int = {len(inputs)},
    scan_input_directions: ints = [{", ".join(input_ways)}],
    scan_output_directions: ints = [{", ".join(ways)}]
  > ({", ".join(f"start{end}" for end in ends)}, {", ".join(fed)})"""
