"""A head on any form: a Linear on every step of ``output``, as a further output of the same file."""

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import helper

from rnn_export.forms._text import add_initializers
from rnn_export.spec import RNNSpec


def add_head(model: onnx.ModelProto, constants: Mapping[str, Any], spec: RNNSpec) -> None:
    """Add ``prediction = output @ head_matrix + head_bias``, (T, B, O) or (B, T, O), in place."""
    graph = model.graph
    matrix = constants["head_matrix"]
    add_initializers(graph, {name: constants[name] for name in ("head_matrix", "head_bias")})
    graph.node.append(helper.make_node("MatMul", ["output", "head_matrix"], ["head_product"]))
    graph.node.append(helper.make_node("Add", ["head_product", "head_bias"], ["prediction"]))
    real = helper.np_dtype_to_tensor_dtype(matrix.dtype)
    shape = [*(("B", "T") if spec.batch_first else ("T", "B")), matrix.shape[1]]
    graph.output.append(helper.make_tensor_value_info("prediction", real, shape))
