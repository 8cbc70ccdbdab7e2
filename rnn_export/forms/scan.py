"""``scan``: the single-matrix cell drawn directly, one Scan per layer and direction, weights in its body."""

import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import drawn_with_bodies, single_matrices, step_text
from rnn_export.forms._text import element_type
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights


@form(
    "scan",
    summary="the single-matrix cell in one Scan per layer and direction, drawn without torch",
    min_opset=13,  # Unsqueeze takes its axes as an input
    constants=single_matrices,
    product="Gemm",
    bfloat16_opset=16,  # Scan-16 and Where-16 are the first that take it
    rank=5,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec, real = weights.spec, element_type(weights)

    def scan(layer: int, direction: int) -> str:
        return _scan(spec, real, layer, direction, drawing.lengths)

    return drawn_with_bodies(weights, drawing, scan)


def _scan(spec: RNNSpec, real: str, layer: int, direction: int, lengths: bool) -> str:
    end, H, I = suffix(layer, direction), spec.hidden_size, spec.layer_input_size(layer)  # noqa: E741
    step = step_text(spec, end, f"x{end}", f"h{end}", f"inside_now{end}" if lengths else "")
    mask_input = f", bool[B,1] inside_now{end}" if lengths else ""
    directions = ", ".join([str(direction)] * (2 if lengths else 1))
    # The state is masked in the body, the output outside it: a second Where per step would cost more.
    states = f"states{end} = Where (inside, raw_states{end}, zero)" if lengths else ""
    # A body that lists one value as state and as output is silently wrong in ONNX Runtime: hence Identity.
    return f"""start{end} = Gather <axis: int = 0> (h_0, index{end})
  last_state{end}, {"raw_" if lengths else ""}states{end} = Scan <
    body: graph = cell{end} ({real}[B,{H}] h{end}, {real}[B,{I}] x{end}{mask_input})
        => ({real}[B,{H}] h_next{end}, {real}[B,{H}] y{end}) {{
      {step}
      y{end} = Identity (h_next{end})
    }},
    num_scan_inputs: int = {2 if lengths else 1},
    scan_input_directions: ints = [{directions}],
    scan_output_directions: ints = [{direction}]
  > (start{end}, sequence_{layer}{", inside" if lengths else ""})
  {states}
  last_row{end} = Unsqueeze (last_state{end}, axis_0)"""
