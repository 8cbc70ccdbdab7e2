"""Whole models: the zoo exported and judged at other sizes, and files that are wrong in one place each."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import rnn_export
from rnn_export.errors import ArtifactError, SourceError, UsageError
from rnn_export.forms import _external
from rnn_export.forms.module import quiet
from rnn_export.report import Report
from rnn_export.residual import GATE
from rnn_export.result import Status
from rnn_export.whole_model.model_folder import export_model
from rnn_export.whole_model.model_subject import ModelSubject
from rnn_export.whole_model.model_verdict import verify_model
from rnn_export.whole_model.networks import networks_of
from rnn_export.whole_model.recurrent_nodes import show_nodes
from rnn_export.whole_model.repeatability import check_repeatable
from scripts.zoo import (
    ZOO,
    AttentionDecoder,
    BidirectionalDropout,
    EncoderDecoder,
    Entry,
    PackedTagger,
    PooledClassifier,
    Tagger,
)

slow = pytest.mark.slow  # alone each takes 2 to 5 s; together they are a minute
QUICK = (Tagger, PackedTagger, AttentionDecoder, EncoderDecoder)
ENTRIES = [
    pytest.param(entry, form, id=f"{entry.name}-{form}", marks=() if form == "rnn" and entry.make in QUICK else slow)
    for entry in ZOO
    for form in ("rnn", "scan")
]


def features(T: int, B: int) -> tuple[Tensor]:
    return (torch.randn(T, B, 6),)


def findings(report: Report) -> dict[str, str]:
    return {row.code: row.detail for row in report.results if row.code}


@pytest.mark.parametrize(("entry", "form"), ENTRIES)
def test_the_zoo_is_right_at_sizes_that_it_was_not_exported_at(entry: Entry, form: str, tmp_path: Path) -> None:
    model = entry.model().train()
    model(*entry.inputs(5, 3))  # a batch of training before, as in life
    state = copy.deepcopy(model.state_dict())
    file = onnx.load(export_model(model, entry.inputs, tmp_path / "out", form=form))
    onnx.checker.check_model(file, full_check=True)
    report = verify_model(model, entry.inputs, tmp_path / "out")
    assert report.exit_code == 0, findings(report)
    cases = {row.case.partition(",")[0] for row in report.results}
    assert len(cases) >= 2
    assert not any(case.startswith("T=5 ") or case.endswith("B=3") for case in cases)
    parts = [row for row in report.results if row.residual is not None]
    layers = [part for part in model.modules() if isinstance(part, nn.RNN)]
    assert len(parts) >= len(cases) * sum(layer.num_layers * (1 + layer.bidirectional) for layer in layers)
    assert max(part.residual for part in parts) <= GATE
    assert {part.precision for part in parts} == {"float32"}
    assert all(row.ratio is not None and row.ratio <= 8 for row in report.results if row.residual is None)
    assert all(part.training for part in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_zoo_has_a_dozen_models() -> None:
    assert len({entry.make for entry in ZOO}) >= 12


@slow
def test_the_same_bytes_twice(tmp_path: Path) -> None:
    entry = ZOO[0]
    first, second = (
        export_model(entry.model(), entry.inputs, tmp_path / name).read_bytes() for name in ("first", "second")
    )
    assert first == second
    assert str(tmp_path).encode() not in first
    assert b"site-packages" not in first


def test_float64(tmp_path: Path) -> None:
    model = PooledClassifier().double()

    def inputs(T: int, B: int) -> tuple[Tensor]:
        return (torch.randn(T, B, 6, dtype=torch.float64),)

    export_model(model, inputs, tmp_path / "out", form="scan")
    report = verify_model(model, inputs, tmp_path / "out")
    assert report.exit_code == 0, findings(report)
    assert {row.precision for row in report.results if row.residual is not None} == {"float64"}


# Files that are wrong: the verdict must see each of them, and say what.


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[nn.Module]], tuple[nn.Module, Any, Path]]:
    """A model of the zoo and its exported folder, exported once."""
    made: dict[type[nn.Module], tuple[nn.Module, Any, Path]] = {}

    def export(kind: type[nn.Module]) -> tuple[nn.Module, Any, Path]:
        if kind not in made:
            entry = next(entry for entry in ZOO if entry.make is kind)
            model, folder = entry.model(), tmp_path_factory.mktemp("right") / "out"
            export_model(model, entry.inputs, folder)
            made[kind] = model, entry.inputs, folder
        return made[kind]

    return export


def node_of(file: onnx.ModelProto, operator: str, index: int = 0) -> onnx.NodeProto:
    return [node for node in file.graph.node if node.op_type == operator][index]


def change(file: onnx.ModelProto, name: str, by: float) -> None:
    """Add to the first element of a constant."""
    tensor = next(tensor for tensor in file.graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] += by
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def another_weight(file: onnx.ModelProto) -> None:
    change(file, node_of(file, "RNN").input[2], 1e-6)


def clipped(file: onnx.ModelProto) -> None:
    node_of(file, "RNN").attribute.append(onnx.helper.make_attribute("clip", 0.05))


def relu(file: onnx.ModelProto) -> None:
    node = node_of(file, "RNN", 1)
    attribute = next(attribute for attribute in node.attribute if attribute.name == "activations")
    attribute.strings[:] = [b"Relu"] * len(attribute.strings)


def another_bias(file: onnx.ModelProto) -> None:
    change(file, next(tensor.name for tensor in file.graph.initializer if tensor.name.endswith("out.bias")), 1e-4)


def lengths_ignored(file: onnx.ModelProto) -> None:
    for index in (0, 1):
        node_of(file, "RNN", index).input[4] = ""


def frozen_batch(file: onnx.ModelProto) -> None:
    file.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3


@pytest.mark.parametrize(
    ("kind", "fault", "code", "says"),
    [
        (PooledClassifier, another_weight, "weights", "holds the weights of rnn layer 0, bit for bit"),
        (PooledClassifier, clipped, "step-residual", "residual .* > 4, first at t=0 .*no arithmetic explains it"),
        (PackedTagger, relu, "step-residual", "residual .* > 4, first at .*it computes relu, not tanh"),
        (PooledClassifier, another_bias, "end-to-end", "times torch's own error"),
        (PackedTagger, lengths_ignored, "end-to-end", "times torch's own error"),
        (PooledClassifier, frozen_batch, "refused", "Got invalid dimensions"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_in_the_file_is_found(right, kind, fault, code: str, says: str, tmp_path: Path) -> None:
    model, inputs, folder = right(kind)
    file = onnx.load(folder / "model.onnx")
    fault(file)
    onnx.save(file, tmp_path / "wrong.onnx")
    report = verify_model(model, inputs, tmp_path / "wrong.onnx")
    assert report.exit_code == 1
    assert report.form is None
    found = findings(report)
    assert code in found, found
    assert re.search(says, found[code]), found[code]


def test_random_numbers_go_on_as_if_nothing_had_been_verified(right) -> None:
    model, inputs, folder = right(PooledClassifier)
    state = torch.get_rng_state()
    assert verify_model(model, inputs, folder).exit_code == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fault_outside_leaves_the_recurrent_parts_proved(right, tmp_path: Path) -> None:
    model, inputs, folder = right(PooledClassifier)
    file = onnx.load(folder / "model.onnx")
    another_bias(file)
    onnx.save(file, tmp_path / "wrong.onnx")
    rows = verify_model(model, inputs, tmp_path / "wrong.onnx").results
    assert {row.status for row in rows if row.residual is not None} == {Status.PASS}
    assert {row.status for row in rows if row.residual is None} == {Status.MISMATCH}


def test_the_instrumented_copy_is_the_same_network(right) -> None:
    _, _, folder = right(PackedTagger)
    file = onnx.load(folder / "model.onnx")
    instrumented, nodes = show_nodes(file)
    assert [node.operator for node in nodes] == ["RNN", "RNN"]
    assert list(instrumented.graph.output)[: len(file.graph.output)] == list(file.graph.output)
    del instrumented.graph.output[len(file.graph.output) :]
    assert len(instrumented.graph.node) == len(file.graph.node)


class Looped(nn.Module):
    """A while loop over time, which Dim.AUTO freezes without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        h, states, t = x.new_zeros(x.shape[1], 8), [], 0
        while t < x.shape[0]:
            h = self.cell(x[t], h)
            states.append(h)
            t += 1
        return torch.stack(states)


def test_a_length_that_torch_froze_silently_is_found(tmp_path: Path) -> None:
    model, auto = Looped().eval(), torch.export.Dim.AUTO
    with quiet():
        program = torch.onnx.export(
            model, features(5, 3), dynamo=True, dynamic_shapes=({0: auto, 1: auto},), verbose=False
        )
    program.save(tmp_path / "frozen.onnx")
    report = verify_model(model, features, tmp_path / "frozen.onnx")
    assert report.exit_code == 1
    assert "float32[5, 12, 8], not float32[17, 12, 8]" in findings(report)["wrong-shape"]


class Auxiliary(nn.Module):
    """A second network whose result is used in training only: the file has no node of it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.auxiliary = nn.RNN(6, 8), nn.RNN(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        y, auxiliary = self.rnn(x)[0], self.auxiliary(x)[0]
        return y + auxiliary if self.training else y


def test_a_network_that_nothing_depends_on_need_not_be_there(tmp_path: Path) -> None:
    model = Auxiliary()
    file = onnx.load(export_model(model, features, tmp_path / "out"))
    assert [node.op_type for node in file.graph.node].count("RNN") == 1
    assert verify_model(model, features, tmp_path / "out").exit_code == 0


class Choice(nn.Module):
    """Integers come out: there is no ratio, they are equal or not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.RNN(6, 8), nn.Linear(8, 50)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0]).argmax(-1)


def test_integers_are_compared_exactly(tmp_path: Path) -> None:
    model = Choice().eval()
    path = export_model(model, features, tmp_path / "out")
    assert verify_model(model, features, path).exit_code == 0
    file = onnx.load(path)
    change(file, "out.bias", 10.0)
    onnx.save(file, path)
    assert "integers" in findings(verify_model(model, features, path))["end-to-end"]


class SingleMatrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = rnn_export.SingleMatrixRNN(6, 8, bidirectional=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def test_a_single_matrix_rnn_inside_is_judged_by_its_steps_too(tmp_path: Path) -> None:
    model = SingleMatrix().eval()
    export_model(model, features, tmp_path / "out")
    rows = verify_model(model, features, tmp_path / "out").results
    assert all(row.passed for row in rows)
    assert len([row for row in rows if row.residual is not None]) == 6  # two directions at three sizes


class Twice(nn.Module):
    """Layers that started as copies, as trunks of equal layers do: the file holds their weights once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.RNN(6, 6), rnn_export.TwoMatrixRNN(6, 4)
        self.second = copy.deepcopy(self.first)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)[0])[0])[0]


@pytest.mark.parametrize("form", ["rnn", "scan"])
def test_equal_weights_and_two_matrices_are_recognised(form: str, tmp_path: Path) -> None:
    model = Twice()
    export_model(model, features, tmp_path / "out", form=form)
    report = verify_model(model, features, tmp_path / "out")
    assert report.exit_code == 0, findings(report)
    assert len([row for row in report.results if row.residual is not None]) == 9  # three layers at three sizes


def test_weights_that_are_computed_from_others(tmp_path: Path) -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.RNN(6, 8), "weight_hh_l0"))
    export_model(model, features, tmp_path / "out")
    assert verify_model(model, features, tmp_path / "out").exit_code == 0
    model(*features(5, 3))[0].sum().backward()  # torch cannot copy such a model until it has run without gradients
    assert verify_model(model, features, tmp_path / "out").exit_code == 0


def test_a_model_that_torch_cannot_copy_is_refused(right) -> None:
    _, inputs, folder = right(PooledClassifier)
    model = PooledClassifier()
    model.kept = model.out.weight * 2  # no leaf of the graph of gradients
    with pytest.raises(SourceError, match=r"cannot be copied.*remove_parametrizations"):
        verify_model(model, inputs, folder)


def test_every_runtime_is_judged_and_a_demanded_one_must_be_there(right) -> None:
    model, inputs, folder = right(PooledClassifier)
    asked = ("onnxruntime-cpu", "onnx-reference")
    told: list[tuple[str, int, int]] = []
    report = verify_model(model, inputs, folder, runtimes=asked, progress=lambda *said: told.append(said))
    assert report.exit_code == 0
    assert {row.runtime for row in report.results} == set(asked)
    assert told == [(name, done, 3) for name in sorted(asked) for done in (1, 2, 3)]
    assert verify_model(model, inputs, folder, require=["onnxruntime-cuda"]).exit_code == 4
    with pytest.raises(UsageError, match="torch runs the weights of one network"):
        verify_model(model, inputs, folder, runtimes=["torch"])
    with pytest.raises(UsageError, match="unknown runtime 'onnx'"):
        verify_model(model, inputs, folder, runtimes="onnx")


def test_weights_that_one_file_cannot_hold_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_external, "EXTERNAL_ABOVE", 2**16)
    model = nn.Sequential(nn.Linear(6, 128), nn.RNN(128, 160))
    assert export_model(model, features, tmp_path / "out").stat().st_size < 2**16
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["model.onnx", "model.onnx.data"]
    report = verify_model(model, features, tmp_path / "out", runtimes=["onnxruntime-cpu", "onnx-reference"])
    assert report.exit_code == 0, findings(report)
    assert len([row for row in report.results if row.residual is not None]) == 6


def test_what_one_message_cannot_hold_is_never_put_into_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """protobuf's limit of 2 GiB, as one of 64 KiB: shape inference and writing both put a model into a message."""
    monkeypatch.setattr(_external, "EXTERNAL_ABOVE", 2**16)
    model = nn.Sequential(nn.Linear(6, 128), nn.RNN(128, 160)).eval()
    export_model(model, features, tmp_path / "out")
    infer, sizes = onnx.shape_inference.infer_shapes, []

    def limited(file: onnx.ModelProto) -> onnx.ModelProto:
        sizes.append(file.ByteSize())
        return infer(file)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", limited)
    (tmp_path / "scratch").mkdir()
    file = onnx.load(tmp_path / "out" / "model.onnx")
    assert file.ByteSize() > 2**16
    subject = ModelSubject.of(model, features, None, file, tmp_path / "scratch")
    assert max(sizes) < 2**16
    for folder in (subject.shipped, subject.instrumented):
        assert (folder / "model.onnx").stat().st_size < 2**16
    assert [path.name for path in subject.instrumented.iterdir()] == ["model.onnx"]
    with subject.showing_nodes() as folder:
        onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert sum(array.nbytes for array in subject.constants.values()) > 2**16


class Quantised(nn.Module):
    """A table of bytes, which the copy in float64 does not double."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 8)
        self.register_buffer("table", torch.ones(rows, 2**20, dtype=torch.uint8))

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.rnn(x + self.table[ids][:, :6].to(x.dtype))[0]


@slow
def test_a_whole_model_above_2_gib_is_exported_and_verified(tmp_path: Path) -> None:
    rows = 2100
    model = Quantised(rows).eval()

    def inputs(T: int, B: int) -> tuple[Tensor, Tensor]:
        return torch.randn(T, B, 6), torch.randint(rows, (B,))

    try:
        export_model(model, inputs, tmp_path / "out")
        assert (tmp_path / "out" / "model.onnx.data").stat().st_size > 2**31
        report = verify_model(model, inputs, tmp_path / "out")
        assert report.exit_code == 0, findings(report)
        assert len([row for row in report.results if row.residual is not None]) == 3
    finally:
        shutil.rmtree(tmp_path)  # pytest would keep the last three runs


# Wrong calls.


def test_a_changed_file_is_an_error(tmp_path: Path) -> None:
    model = nn.RNN(6, 8)
    export_model(model, features, tmp_path / "out")
    (tmp_path / "out" / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"model\.onnx in .*out was changed"):
        verify_model(model, features, tmp_path / "out")
    rnn_export.export("rnn:6,8", tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="holds no whole model, but one recurrent network"):
        verify_model(model, features, tmp_path / "artifact")


def test_a_model_that_cannot_be_the_truth_is_refused(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(6, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x, torch.zeros(1, x.shape[1], 8, dtype=torch.float32))[0]

    model = Fixed().eval()
    path = export_model(model, features, tmp_path / "out")
    with pytest.raises(SourceError, match=r"does not run in float64.*x\.new_zeros"):
        verify_model(model, features, path)


def test_a_model_that_runs_at_one_size_only_is_refused(right, tmp_path: Path) -> None:
    _, _, folder = right(PooledClassifier)

    class Strict(PooledClassifier):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[0] != 5:
                raise ValueError("five steps, please")
            return super().forward(x)

    with pytest.raises(SourceError, match=r"two other sizes.*five steps, please"):
        verify_model(Strict(), features(5, 3), folder, dynamic_shapes=({0: "T", 1: "B"},))


def test_a_file_of_another_model_is_refused(right) -> None:
    _, _, folder = right(PackedTagger)
    with pytest.raises(ArtifactError, match=r"inputs x, lengths, but the model gets 1"):
        verify_model(BidirectionalDropout(), lambda T, B: (torch.randn(B, T, 6),), folder)


class Noisy(PooledClassifier):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.randn(1)


class Counting(PooledClassifier):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + self.calls


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Noisy, r"differ: test_model_verdict\.py:\d+: torch's randn is random, in evaluation mode too\. Take it out"),
        (Counting, r"differ, with no random number of torch's\. .*keeps from one run to the next"),
    ],
)
def test_a_model_that_answers_otherwise_the_second_time_is_no_yardstick(right, kind, says: str) -> None:
    _, inputs, folder = right(PooledClassifier)
    model, state = kind(), torch.get_rng_state()
    with pytest.raises(SourceError, match=f"two runs of the model on one input {says}"):
        verify_model(model, inputs, folder)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_nan_twice_is_the_same_answer() -> None:
    check_repeatable(nn.Identity(), (torch.tensor([1.0, np.nan]),))


def test_a_file_that_was_exported_without_dynamic_shapes_is_told_so(tmp_path: Path) -> None:
    model = nn.RNN(6, 8)
    with rnn_export.exporting(), quiet():
        program = torch.onnx.export(model, features(5, 3), dynamo=True, verbose=False)
    program.save(tmp_path / "static.onnx")
    report = verify_model(model, features, tmp_path / "static.onnx")
    assert report.exit_code == 1
    assert findings(report) == {
        "fixed-axes": "every axis of this file is fixed: give dynamic_shapes to torch.onnx.export"
    }


def test_the_verdict_of_a_file_without_its_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        verify_model(PooledClassifier(), features, tmp_path / "none.onnx")


def test_nan_in_the_output_is_no_pass(right, tmp_path: Path) -> None:
    model, inputs, folder = right(PooledClassifier)
    file = onnx.load(folder / "model.onnx")
    change(file, "out.bias", np.nan)
    onnx.save(file, tmp_path / "wrong.onnx")
    assert findings(verify_model(model, inputs, tmp_path / "wrong.onnx"))["end-to-end"].startswith("inf times")


class Overflowing(nn.Module):
    """One column of the output is more than float32 holds."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.out(self.rnn(x)[0]), torch.exp(x[..., :1].abs() + 100)], -1)


def test_an_overflow_hides_nothing_beside_it(tmp_path: Path) -> None:
    model = Overflowing().eval()
    path = export_model(model, features, tmp_path / "out")
    report = verify_model(model, features, path)
    assert report.exit_code == 0, findings(report)
    assert any("no finite value" in row.detail for row in report.results)
    file = onnx.load(path)
    change(file, "out.bias", 5.0)
    onnx.save(file, path)
    assert "times torch's own error" in findings(verify_model(model, features, path))["end-to-end"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_whole_model_in_a_coarse_type_is_refused_by_the_name_of_its_network(dtype):
    model = nn.ModuleDict({"encoder": nn.RNN(3, 4).to(dtype)})
    with pytest.raises(SourceError, match=r"encoder is b?float16\. A whole model is exported in float32 or float64"):
        networks_of(model)
