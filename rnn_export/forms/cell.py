"""``cell``: one time step of every layer; the program that runs it holds the loop and the states."""

import onnx
from onnx import parser

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import row_constants, single_matrices, step_text
from rnn_export.forms._text import add_initializers, element_type, model_header
from rnn_export.spec import suffix
from rnn_export.weights import Weights


@form(
    "cell",
    summary="one step, input (B, I), h_0 (L, B, H) -> h_n (L, B, H): no loops are needed, the program keeps the state",
    min_opset=13,  # Unsqueeze takes its axes as an input
    constants=single_matrices,
    product="Gemm",
    bfloat16_opset=13,
    rank=9,
    length="step",
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    spec, real = weights.spec, element_type(weights)
    L, H = spec.num_layers, spec.hidden_size
    lines, below = [], "input"
    for layer in range(L):
        end = suffix(layer, 0)
        lines.append(f"start{end} = Gather <axis: int = 0> (h_0, index{end})")
        lines.append(step_text(spec, end, below, f"start{end}"))
        below = f"h_next{end}"
        lines.append(f"last_row{end} = Unsqueeze ({below}, axis_0)")
    rows = ", ".join(f"last_row{suffix(layer, 0)}" for layer in range(L))
    lines.append(f"h_n = Concat <axis: int = 0> ({rows})" if L > 1 else f"h_n = Identity ({rows})")
    model = parser.parse_model(
        f"{model_header(drawing)}\n"
        f"rnn_cell ({real}[B,{spec.input_size}] input, {real}[{L},B,{H}] h_0) => ({real}[{L},B,{H}] h_n)\n"
        "{\n  " + "\n  ".join(lines) + "\n}"
    )
    add_initializers(model.graph, {**row_constants(spec), **single_matrices(weights)}, drawing)
    return model
