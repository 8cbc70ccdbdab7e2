"""``unrolled``: the single-matrix cell once per step, for runtimes without loops; the length is fixed."""

import numpy as np
import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import layer_text, row_constants, single_matrices, step_text
from rnn_export.forms._text import drawn_model
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights


@form(
    "unrolled",
    summary="the single-matrix cell once per step, of the fixed length that --steps gives, for runtimes without loops",
    min_opset=13,  # Unsqueeze takes its axes as an input
    constants=single_matrices,
    product="Gemm",
    bfloat16_opset=16,  # Where-16 is the first that takes it
    rank=8,
    length="fixed",
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec = weights.spec
    assert drawing.steps is not None  # draw() asks for it

    def steps(layer: int, direction: int) -> str:
        return _steps(spec, layer, direction, drawing)

    layers = [layer_text(spec, layer, steps) for layer in range(spec.num_layers)]
    times = {f"time_{t}": np.array(t, np.int64) for t in range(drawing.steps)}
    return drawn_model(weights, drawing, layers, {**row_constants(spec), **times, **single_matrices(weights)})


def _steps(spec: RNNSpec, layer: int, direction: int, drawing: Drawing) -> str:
    end, steps = suffix(layer, direction), range(drawing.steps or 0)
    lines, h = [f"start{end} = Gather <axis: int = 0> (h_0, index{end})"], f"start{end}"
    for t in reversed(steps) if direction else steps:
        lines.append(f"x{end}_{t} = Gather <axis: int = 0> (sequence_{layer}, time_{t})")
        if drawing.lengths:
            lines.append(f"inside{end}_{t} = Gather <axis: int = 0> (inside, time_{t})")
        lines.append(step_text(spec, end, f"x{end}_{t}", h, f"inside{end}_{t}" if drawing.lengths else "", f"_{t}"))
        h = f"h_next{end}_{t}"
        lines.append(f"row{end}_{t} = Unsqueeze ({h}, axis_0)")
    raw = f"raw_states{end}" if drawing.lengths else f"states{end}"
    lines.append(f"{raw} = Concat <axis: int = 0> ({', '.join(f'row{end}_{t}' for t in steps)})")
    lines += [f"states{end} = Where (inside, {raw}, zero)"] if drawing.lengths else []
    lines.append(f"last_row{end} = Unsqueeze ({h}, axis_0)")
    return "\n  ".join(lines)
