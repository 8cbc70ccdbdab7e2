"""Files that no form draws, each with what somebody else's exporter or hand is known to put into one."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper, parser
from torch import Tensor, nn

from rnn_export import Weights, to_torch
from rnn_export.forms import draw
from rnn_export.forms._tidy import body_of


@dataclass(frozen=True)
class HandDrawn:
    """A file: of which network, what is in it, and how it is written."""

    spec: str
    what: str
    write: Callable[[Weights, Path], None]


def _scan(weights: Weights) -> tuple[onnx.ModelProto, onnx.NodeProto]:
    model = draw("scan", weights, 18)
    return model, next(node for node in model.graph.node if node.op_type == "Scan")


def _aliased(weights: Weights, path: Path) -> None:
    model, scan = _scan(weights)
    body = body_of(scan)
    kept = [node for node in body.node if node.op_type != "Identity"]
    del body.node[:]
    body.node.extend(kept)
    body.output[1].name = body.output[0].name
    onnx.save(model, path)


def _weights_outside(weights: Weights, path: Path) -> None:
    model, scan = _scan(weights)
    body = body_of(scan)
    model.graph.initializer.extend(body.initializer)
    del body.initializer[:]
    onnx.save(model, path)


def _operator(text: str) -> Callable[[Weights, Path], None]:
    """A writer of a graph around RNN nodes, whose W, R and B of each direction are its constants."""

    def write(weights: Weights, path: Path) -> None:
        model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
        spec = weights.spec
        for direction in range(spec.num_directions):
            cell = weights.cell(0, direction)
            arrays = {"W": cell.weight_ih, "R": cell.weight_hh, "B": np.concatenate([cell.bias_ih, cell.bias_hh])}
            for name, array in arrays.items():
                model.graph.initializer.append(numpy_helper.from_array(array[None], f"{name}{direction}"))
        onnx.save(model, path)

    return write


_NO_STATE = """rnn (float[T,B,4] input) => (float[T,B,8] output, float[1,B,8] h_n)
<int64[1] one = {1}> {
  Y, h_n = RNN <hidden_size: int = 8> (input, W0, R0, B0)
  output = Squeeze (Y, one)
}"""
_LAYOUT = """rnn (float[B,T,4] input, float[1,B,8] h_0) => (float[B,T,8] output, float[1,B,8] h_n)
<int64[1] two = {2}> {
  state = Transpose <perm: ints = [1, 0, 2]> (h_0)
  Y, Y_h = RNN <hidden_size: int = 8, layout: int = 1> (input, W0, R0, B0, , state)
  output = Squeeze (Y, two)
  h_n = Transpose <perm: ints = [1, 0, 2]> (Y_h)
}"""
_REVERSE = """rnn (float[T,B,4] input, float[2,B,8] h_0) => (float[T,B,16] output, float[2,B,8] h_n)
<int64[1] axis = {0}, int64[1] one = {1}, int64[1] two = {2}> {
  start0 = Slice (h_0, axis, one, axis)
  start1 = Slice (h_0, one, two, axis)
  Y0, last0 = RNN <hidden_size: int = 8> (input, W0, R0, B0, , start0)
  Y1, last1 = RNN <hidden_size: int = 8, direction: string = "reverse"> (input, W1, R1, B1, , start1)
  forward = Squeeze (Y0, one)
  backward = Squeeze (Y1, one)
  output = Concat <axis: int = 2> (forward, backward)
  h_n = Concat <axis: int = 0> (last0, last1)
}"""


class _Loop(nn.Module):
    """The loop over a cell as it stands in most people's code."""

    def __init__(self, cell: nn.RNNCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
        h, states = h_0[0], []
        for t in range(x.shape[0]):
            h = self.cell(x[t], h)
            states.append(h)
        return torch.stack(states), h[None]


def _traced_loop(weights: Weights, path: Path) -> None:
    cell = nn.RNNCell(4, 8)
    cell.load_state_dict({name.removesuffix("_l0"): torch.from_numpy(array.copy()) for name, array in weights.items()})
    names = {"input_names": ["input", "h_0"], "output_names": ["output", "h_n"]}
    axes = {name: {0: "T", 1: "B"} if "put" in name else {1: "B"} for name in ("input", "h_0", "output", "h_n")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, which says that the loop is frozen
        example = (torch.randn(5, 3, 4), torch.randn(1, 3, 8))
        torch.onnx.export(_Loop(cell), example, path, dynamo=False, dynamic_axes=axes, **names)


def _exported_rnn(weights: Weights, path: Path) -> None:
    rnn = to_torch(weights).eval()
    axes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells which operators of torchvision it skips
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own deprecations: it has no word about the length
        torch.onnx.export(rnn, (torch.randn(5, 3, 4),), path, dynamic_shapes=(axes,), verbose=False)


BY_HAND = {
    "aliased Scan": HandDrawn(
        "rnn:4,8", "a Scan whose body lists one value as state and as output, which the ONNX checker accepts", _aliased
    ),
    "weights outside the Scan": HandDrawn(
        "rnn:4,8", "the form `scan` with its weights in the graph around the body", _weights_outside
    ),
    "RNN, a node for each direction": HandDrawn(
        "rnn:4,8,bidirectional", "the operator once forward and once with `direction=reverse`", _operator(_REVERSE)
    ),
    "RNN without initial_h": HandDrawn("rnn:4,8", "the operator that starts from zeros", _operator(_NO_STATE)),
    "RNN with layout=1": HandDrawn(
        "rnn:4,8,batch-first", "the operator's own way to have the batch first", _operator(_LAYOUT)
    ),
    "torch, a traced loop": HandDrawn(
        "rnn:4,8",
        "`torch.onnx.export(dynamo=False)` of a loop over RNNCell at 5 steps, with dynamic axes",
        _traced_loop,
    ),
    "torch, nn.RNN": HandDrawn(
        "rnn:4,8", "`torch.onnx.export` of nn.RNN at 5 steps, with `Dim.AUTO` for length and batch", _exported_rnn
    ),
}
