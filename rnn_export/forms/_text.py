"""Drawing as ONNX text, which shows the graph: the frame that the direct forms share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from rnn_export.weights import Weights


def element_type(weights: Weights) -> str:
    """The element type in ONNX's text syntax."""
    return "double" if weights.dtype == np.float64 else "float"


def drawn_model(
    weights: Weights, opset: int, layers: Sequence[str], initializers: Mapping[str, Any]
) -> onnx.ModelProto:
    """The model around the layers' own statements.

    ``layers`` read ``sequence_0`` (T, B, I) and ``h_0``; layer l writes ``sequence_{l+1}`` (T, B, D*H) and its
    last states ``last_{l}`` (D, B, H).
    """
    spec, real = weights.spec, element_type(weights)
    L, D, H = spec.num_layers, spec.num_directions, spec.hidden_size
    axes = "B,T" if spec.batch_first else "T,B"
    turn = "Transpose <perm: ints = [1, 0, 2]>" if spec.batch_first else "Identity"
    body = [f"sequence_0 = {turn} (input)", *layers, f"output = {turn} (sequence_{L})"]
    lasts = ", ".join(f"last_{layer}" for layer in range(L))
    body.append(f"h_n = Concat <axis: int = 0> ({lasts})" if L > 1 else "h_n = Identity (last_0)")
    text = (
        f'<ir_version: {_ir_version(opset)}, opset_import: ["" : {opset}], producer_name: "rnn-export">\n'
        f"rnn ({real}[{axes},{spec.input_size}] input, {real}[{L * D},B,{H}] h_0)"
        f" => ({real}[{axes},{D * H}] output, {real}[{L * D},B,{H}] h_n)\n"
        "{\n  " + "\n  ".join(body) + "\n}"
    )
    model = parser.parse_model(text)
    add_initializers(model.graph, initializers)
    return model


def add_initializers(graph: onnx.GraphProto, arrays: Mapping[str, Any]) -> None:
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items())


def _ir_version(opset: int) -> int:
    version: int = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    return version
