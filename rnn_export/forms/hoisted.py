"""``hoisted``: the input's product outside of the loop, at once for all steps; in the Scan only the recurrent one."""

import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._hoisted_scans import hoisted_model
from rnn_export.forms._hoisting import LEAST_OPSET, recurrent_text, split_matrices
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
    def step(end: str, mask: str) -> str:
        return recurrent_text(weights.spec, end, f"x{end}", f"h{end}", f"h_next{end}", mask)

    return hoisted_model(weights, drawing, split_matrices(weights), step)
