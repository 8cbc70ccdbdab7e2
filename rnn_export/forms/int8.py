"""``int8``: as ``hoisted``, with recurrent weights of 8 bits and the state rounded to 8 bits at every product.

It computes another network than the checkpoint's: its recurrent weights, dequantised, in a product of integers. The
operator is ONNX Runtime's own, MatMulNBits of the domain com.microsoft, which OpenVINO reads too.
"""

import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._hoisted_scans import hoisted_model
from rnn_export.forms._hoisting import LEAST_OPSET
from rnn_export.forms._quantisation import computed_network, quantised_matrices
from rnn_export.forms._text import activated_text
from rnn_export.quantised_state import BLOCK
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

DOMAIN = "com.microsoft"
# accuracy_level 4 multiplies integers; without it the weights are made float32 at every step, 10 to 100 times slower
PRODUCT = f"{DOMAIN}.MatMulNBits <bits: int = 8, block_size: int = {BLOCK}, accuracy_level: int = 4"


@form(
    "int8",
    summary="as hoisted with 8-bit recurrent weights, another network: batch 1 and 512 units or more, ONNX Runtime",
    min_opset=LEAST_OPSET,
    constants=quantised_matrices,
    product="MatMulNBits",
    bfloat16_opset=LEAST_OPSET,  # it takes float32 alone
    rank=99,  # the last: nothing chooses it, see quantised
    quantised=computed_network,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    def step(end: str, mask: str) -> str:
        return _step(weights.spec, end, mask)

    model = hoisted_model(weights, drawing, quantised_matrices(weights), step)
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return model


def _step(spec: RNNSpec, end: str, mask: str) -> str:
    H = spec.hidden_size
    lines = [
        f"hR{end} = {PRODUCT}, K: int = {H}, N: int = {H}> (h{end}, R{end}, R_scale{end})",
        f"z{end} = Add (hR{end}, x{end})",
    ]
    state = activated_text(spec, f"z{end}", f"h{end}", f"h_next{end}", mask, held=f"h_new{end}")
    return "\n      ".join([*lines, *state])
