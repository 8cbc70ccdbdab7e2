"""torch's exporter on a whole model, and what it raises in one line."""

import io
import re
import traceback
from contextlib import redirect_stderr

import onnx
import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.onnx import OnnxExporterError

from rnn_export.conversion.replacement import exporting
from rnn_export.errors import ConversionError
from rnn_export.forms.module import quiet
from rnn_export.whole_model.sizes import Inputs
from rnn_export.whole_model.users_code import last_place, place_of, told, users_code

_LINE = re.compile(r'File "(.+)", line (\d+)')
_MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


def exported(model: nn.Module, given: Inputs, form: str, opset: int) -> onnx.ModelProto:
    """The model as an ONNX file, as torch draws it inside ``exporting(form)``.

    Raises:
        SourceError: the model does not run on its example.
        ConversionError: torch's exporter refuses it, or it would freeze a size.
    """
    with users_code("the model does not run"), torch.no_grad():
        model(*given.example)  # its own error, before it is one of the exporter's
    try:
        # Before it raises, torch writes all that it has drawn; what the model itself writes was seen in the run above.
        with exporting(form), quiet(), redirect_stderr(io.StringIO()):
            program = torch.onnx.export(
                model,
                given.example,
                dynamo=True,
                dynamic_shapes=given.dynamic_shapes,
                opset_version=opset,
                verbose=False,
            )
    except OnnxExporterError as error:
        raise _refusal(error) from error
    assert program is not None  # only the TorchScript exporter returns None
    file: onnx.ModelProto = program.model_proto
    return file


def _refusal(error: OnnxExporterError) -> ConversionError:
    """torch wraps what was raised once per stage; the innermost says what it was."""
    root: BaseException = error
    place = ""
    while isinstance(root, OnnxExporterError) and root.__cause__ is not None:
        root = root.__cause__
        place = place or _place_of_node(root)
    place, said, hint = place or place_of(root), told(root), ""
    if isinstance(root, GuardOnDataDependentSymNode):
        said = f"{place}: the model branches on a value that only a run knows"
        hint = "Write it with torch.where"
    elif missing := _MISSING.search(str(root)):
        said = f"{place}: ONNX has no {missing[1]}, and torch cannot take it apart"
        hint = "Write it with other operators"
    return ConversionError(f"torch cannot export the model: {said.removeprefix(': ')}", hint)


def _place_of_node(error: BaseException) -> str:
    """The user's line that made the node which the exporter was at: the traceback has torch's own lines only."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(node := frame.f_locals.get("node"), torch.fx.Node):
            return last_place((file, int(line)) for file, line in _LINE.findall(node.meta.get("stack_trace") or ""))
    return ""
