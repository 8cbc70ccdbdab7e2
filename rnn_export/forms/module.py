"""``module``: SingleMatrixRNN through ``torch.onnx.export``, one Scan per layer and direction."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from rnn_export.forms import Drawing, form
from rnn_export.forms._cell import single_matrices
from rnn_export.weights import Weights

EXAMPLE_T, EXAMPLE_B = 5, 3  # never T = 1: torch specialises a size of 1, and the length would be frozen


@form(
    "module",
    summary="SingleMatrixRNN through torch.onnx.export, one Scan per layer and direction",
    min_opset=16,  # the exporter draws in 18 and converts down; 16 is the lowest that ONNX Runtime was seen to run
    constants=single_matrices,
    product="Gemm",
    bfloat16_opset=16,  # as in scan
    rank=6,
    merges_constants=True,
)
def build(weights: Weights, drawing: Drawing) -> onnx.ModelProto:
    import torch

    from rnn_export.module import SingleMatrixRNN
    from rnn_export.recurrence import EXPORTER

    spec = weights.spec
    network = SingleMatrixRNN.from_weights(weights).eval()
    dtype = next(network.parameters()).dtype
    axes = (EXAMPLE_B, EXAMPLE_T) if spec.batch_first else (EXAMPLE_T, EXAMPLE_B)
    names = {0: "B", 1: "T"} if spec.batch_first else {0: "T", 1: "B"}
    example = [
        torch.zeros(*axes, spec.input_size, dtype=dtype),
        torch.zeros(spec.num_layers * spec.num_directions, EXAMPLE_B, spec.hidden_size, dtype=dtype),
    ]
    shapes = [names, {1: "B"}]
    inputs = ["input", "h_0"]
    if drawing.lengths:
        example.append(torch.tensor([EXAMPLE_T, 2, 3]))
        shapes.append({0: "B"})
        inputs.append("lengths")
    with EXPORTER, torch.no_grad(), quiet():
        program = torch.onnx.export(
            network,
            tuple(example),
            dynamo=True,
            dynamic_shapes=tuple(shapes),
            input_names=inputs,
            output_names=["output", "h_n"],
            opset_version=drawing.opset,
            verbose=False,
        )
    assert program is not None  # only the TorchScript exporter returns None
    model: onnx.ModelProto = program.model_proto
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter's warnings are about torchvision and its own future, nothing that a user could act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
