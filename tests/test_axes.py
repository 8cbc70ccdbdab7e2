"""An axis is dynamic when the file really runs at other sizes, whatever it declares."""

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnx import parser
from torch import Tensor, nn

from rnn_export import export
from rnn_export.axes import AxisFinding, probe_axes


def found(path: Path) -> dict[str, AxisFinding]:
    return {finding.name: finding for finding in probe_axes(onnx.load(path))}


def drawn(path: Path, text: str) -> Path:
    header = '<ir_version: 8, opset_import: ["" : 18]>\n'
    onnx.save(parser.parse_model(header + text), path)
    return path


class Loop(nn.Module):
    """What torch's exporters unroll and call dynamic."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.cell, self.last = nn.RNNCell(3, 4), last

    def forward(self, x: Tensor) -> Tensor:
        h, states = torch.zeros(x.shape[1], 4), []
        for t in range(x.shape[0]):
            h = self.cell(x[t], h)
            states.append(h)
        return h if self.last else torch.stack(states)


@pytest.mark.parametrize("form", ["scan", "rnn"])
@pytest.mark.parametrize("lengths", [False, True])
def test_our_own_files_are_dynamic(form, lengths, tmp_path):
    artifact = export("rnn:3,4,bidirectional,batch-first", tmp_path / "out", form=form, lengths=lengths)
    states = {name: finding.state for name, finding in found(artifact.model_path).items()}
    assert states == {"T": "dynamic", "B": "dynamic"}


@pytest.mark.parametrize("last", [False, True])
def test_an_unrolled_loop_that_declares_its_length_dynamic_is_frozen(last, tmp_path):
    path = tmp_path / "loop.onnx"
    axes = {"x": {0: "T", 1: "B"}, "y": {0: "B"} if last else {0: "T", 1: "B"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Loop(last), (torch.randn(5, 3, 3),), path, dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes=axes,
        )  # fmt: skip
    axes_found = found(path)
    assert axes_found["B"].state == "dynamic"
    # Where no output has the axis, nothing but the want of an effect can show it.
    assert axes_found["T"].state == ("no effect seen" if last else "frozen")
    assert last or "of 67 5 come back in y: the loop is unrolled" in axes_found["T"].detail


def test_a_size_that_is_refused_is_said(tmp_path):
    text = "g (float[T,4] x) => (float[T,N] y) <float[3,4] c = {0,0,0,0,0,0,0,0,0,0,0,0}> { y = Add (x, c) }"
    only_three = found(drawn(tmp_path / "a.onnx", text))["T"]
    assert only_three.state == "refused"
    assert only_three.detail.startswith("runs at 3; at 67: ")
    never = found(drawn(tmp_path / "b.onnx", text.replace("[3,4] c = {0,0,0,0,", "[2,4] c = {").replace("T,N", "T,4")))
    assert (never["T"].state, "at 3: " in never["T"].detail) == ("refused", True)


def test_what_cannot_be_fed_is_not_tried(tmp_path):
    words = found(drawn(tmp_path / "a.onnx", "g (string[N] x) => (string[N] y) { y = Identity (x) }"))
    assert words["N"].state == "not tried"
    large = found(drawn(tmp_path / "b.onnx", "g (float[N,1048576] x) => (float[N,1048576] y) { y = Identity (x) }"))
    assert "more than" in large["N"].detail


def test_a_file_without_dynamic_axes_starts_no_runtime(tmp_path):
    assert found(drawn(tmp_path / "a.onnx", "g (float[3,4] x) => (float[3,4] y) { y = Identity (x) }")) == {}


def test_an_output_that_keeps_its_size_is_frozen_although_another_follows(tmp_path):
    text = """g (float[T,3] x) => (float[T,3] y, float[T,3] m) <int64[1] a = {0}, int64[1] b = {20}>
        { y = Slice (x, a, b, a)  m = Relu (x) }"""
    finding = found(drawn(tmp_path / "a.onnx", text))["T"]
    assert finding.state == "frozen"
    assert "of 67 20 come back in y: the constant b = [20] of Slice" in finding.detail


def test_what_fades_and_what_is_summed_is_dynamic(tmp_path):
    total = "g (float[T] x) => (float[1] y) <int64[1] a = {0}> { y = ReduceSum (x, a) }"
    assert found(drawn(tmp_path / "a.onnx", total))["T"].state == "dynamic"
    # In reverse the last slice is the first step, and is forgotten over 67 of them
    small = "0.2,0,0,0,0,0.2,0,0,0,0,0.2,0,0,0,0,0.2"
    weights = f"<float[1,4,3] W = {{1,1,1,1,1,1,1,1,1,1,1,1}}, float[1,4,4] R = {{{small}}}>"
    reverse = f"""g (float[T,2,3] x) => (float[1,2,4] h) {weights}
        {{ y, h = RNN <hidden_size: int = 4, direction: string = "reverse"> (x, W, R) }}"""
    assert found(drawn(tmp_path / "b.onnx", reverse))["T"].state == "dynamic"


def test_a_file_cannot_ask_for_more_than_a_minute(tmp_path):
    values = ", ".join(f"float[n{i}] x{i}" for i in range(20))
    states = found(drawn(tmp_path / "a.onnx", f"g ({values}) => (float[n0] y) {{ y = Relu (x0) }}"))
    assert [finding.state for finding in states.values()].count("not tried") == 4


def test_sizes_that_are_no_sizes_are_dynamic_and_foreign_data_is_found(tmp_path):
    path = drawn(tmp_path / "a.onnx", "g (float[3,4] x) => (float[3,4] y) { y = Relu (x) }")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    assert {finding.state for finding in probe_axes(model)} == {"dynamic"}
