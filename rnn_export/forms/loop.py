"""``loop``: the single-matrix cell in one Loop per layer and direction, for runtimes that lack Scan."""

import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import drawn_with_bodies, single_matrices, step_text
from rnn_export.forms._text import element_type
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights

_COUNT = """loop_shape = Shape (sequence_0)
  step_count = Gather <axis: int = 0> (loop_shape, first)
  last_step = Sub (step_count, one)"""


@form(
    "loop",
    summary="the single-matrix cell in one Loop per layer and direction, for runtimes that lack Scan",
    min_opset=13,  # Unsqueeze takes its axes as an input
    constants=single_matrices,
    product="Gemm",
    bfloat16_opset=16,  # Loop-16 and Where-16 are the first that take it
    rank=7,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec, real = weights.spec, element_type(weights)

    def loop(layer: int, direction: int) -> str:
        return _loop(spec, real, layer, direction, drawing.lengths)

    integers: dict[str, int | list[int]] = {"first": 0, "one": 1}
    if spec.bidirectional:
        integers |= {"from_end": [-1], "to_start": [-(2**63)], "backwards": [-1]}
    return drawn_with_bodies(weights, drawing, loop, [_COUNT], integers)


def _loop(spec: RNNSpec, real: str, layer: int, direction: int, lengths: bool) -> str:
    end, H = suffix(layer, direction), spec.hidden_size
    step = step_text(spec, end, f"x{end}", f"h{end}", f"inside_now{end}" if lengths else "")
    t = f"t{end}" if direction else f"i{end}"
    read = [f"{t} = Sub (last_step, i{end})"] if direction else []
    read.append(f"x{end} = Gather <axis: int = 0> (sequence_{layer}, {t})")
    read += [f"inside_now{end} = Gather <axis: int = 0> (inside, {t})"] if lengths else []
    # A Loop stacks its steps in the order in which it made them.
    raw = f"raw_states{end}" if lengths else f"states{end}"
    made = f"backward_states{end}" if direction else raw
    after = [f"{raw} = Slice ({made}, from_end, to_start, axis_0, backwards)"] if direction else []
    after += [f"states{end} = Where (inside, {raw}, zero)"] if lengths else []
    after.append(f"last_row{end} = Unsqueeze (last_state{end}, axis_0)")
    inner, outer = "\n      ", "\n  "
    return f"""start{end} = Gather <axis: int = 0> (h_0, index{end})
  last_state{end}, {made} = Loop <
    body: graph = cell{end} (int64 i{end}, bool go{end}, {real}[B,{H}] h{end})
        => (bool go_on{end}, {real}[B,{H}] h_next{end}, {real}[B,{H}] y{end}) {{
      go_on{end} = Identity (go{end})
      {inner.join(read)}
      {step}
      y{end} = Identity (h_next{end})
    }}
  > (step_count, , start{end})
  {outer.join(after)}"""
