"""The form of 8-bit weights: right for the network that it computes, and it is said how far that is from the other."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from rnn_export import export, forms, inspection, verify
from rnn_export.artifact import MANIFEST, Artifact, sealed
from rnn_export.checkpoint import Checkpoint
from rnn_export.errors import UsageError
from rnn_export.forms import _external, draw, network_of
from rnn_export.forms._tidy import graphs
from rnn_export.pipeline import quantisation_notes
from rnn_export.result import Result, Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec
from rnn_export.subject import subject_of_artifact
from rnn_export.weights import Head, Weights
from tests.subjects import only, random_weights, rows_of

SPECS = (
    "rnn:3,4",
    "rnn:5,40,relu,layers=2,bidirectional",
    "rnn:5,100,identity,no-bias",
    "rnn:3,33,layers=2,batch-first",
    "rnn:3,64,bidirectional,no-bias,batch-first",
)


def cases_of(rows: list[Result], runtime: str = "onnxruntime-cpu") -> list[Result]:
    return [row for row in rows if row.runtime == runtime and row.case != "drift"]


def judged_of(rows: list[Result], runtime: str = "onnxruntime-cpu") -> list[Result]:
    """Those with a residual: where torch shows no layers of padded sequences there is none."""
    return [row for row in cases_of(rows, runtime) if row.case.startswith("T=") and row.residual is not None]


def with_head(text: str) -> Checkpoint:
    weights = random_weights(text)
    width = weights.spec.num_directions * weights.spec.hidden_size
    head = np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)
    return Checkpoint(weights, (), {"name": text}, Head(head, np.ones(2, np.float32)))


class TestTwice:
    @pytest.mark.parametrize(
        ("text", "lengths"), [*((text, False) for text in SPECS), *((text, True) for text in SPECS[1:3])]
    )
    def test_it_is_right_of_the_network_that_it_computes_and_says_how_far_that_is_from_the_original(
        self, text, lengths, tmp_path
    ):
        artifact = export(with_head(text), tmp_path / "net", form="int8", lengths=lengths)
        report = verify(artifact.path, runtimes=["onnxruntime-cpu", "torch"])
        rows, judged = cases_of(report.results), judged_of(report.results)
        assert (report.exit_code, {row.code for row in rows} - {"", "no-steps"}) == (0, set())
        assert {row.precision for row in judged} == {"int8"}
        assert max(row.residual for row in judged) < 2  # of 4, as other forms have it
        assert {row.ratio for row in judged} == {None}  # torch's rounding is no measure for states of 8 bits
        torchs = judged_of(report.results, "torch")
        assert {row.precision for row in torchs} == {"float32"}  # it runs the same network, with its states as they are

        (drift,) = [row for row in report.results if row.case == "drift"]
        assert (drift.runtime, drift.status, drift.precision, drift.max_abs) == (
            "onnxruntime-cpu",
            Status.PASS,
            "int8",
            None,
        )
        number = r"(\d\.\de-\d\d)"
        said = f"drift {number} at T=400 against the original weights, {number} over the first 10 steps"
        said += f", of outputs up to {number}, {number} in the prediction"
        found = re.fullmatch(said, drift.detail)
        assert found, drift.detail
        whole, first, largest, _ = (float(value) for value in found.groups())
        assert 1e-4 < first <= whole < 0.1 * largest

    def test_where_no_layer_can_be_seen_what_rounding_the_states_changes_is_the_measure(self, tmp_path, monkeypatch):
        """torch's own rounding is a ten-thousandth of it."""
        monkeypatch.setattr("rnn_export.subject.instrument", lambda *_: None)
        artifact = export("rnn:5,40,layers=2,bidirectional", tmp_path / "net", form="int8")
        rows = cases_of(list(verify(artifact.path, runtimes=["onnxruntime-cpu"]).results))
        assert {row.status for row in rows} <= {Status.PASS, Status.DIVERGENCE}
        assert any("judged end to end" in row.detail for row in rows)

    def test_a_file_of_any_other_form_has_no_such_row(self, tmp_path):
        artifact = export("rnn:3,4", tmp_path / "net", form="scan")
        rows = verify(artifact.path, runtimes=["onnxruntime-cpu"]).results
        assert not [row for row in rows if row.case == "drift"]

    def test_products_in_float32_are_right_too_and_are_called_so(self, tmp_path):
        """accuracy_level says how coarse a product may be at most: not every kernel is as coarse."""

        def unrounded(model: onnx.ModelProto) -> None:
            for graph in graphs(model.graph):
                for node in graph.node:
                    for attribute in node.attribute:
                        if attribute.name == "accuracy_level":
                            attribute.i = 0

        artifact = changed(export("rnn:3,64", tmp_path / "net", form="int8"), unrounded)
        report = verify(artifact, runtimes=["onnxruntime-cpu"])
        assert report.exit_code == 0
        assert {row.precision for row in judged_of(report.results)} == {"float32"}


def changed(artifact: Artifact, change: Callable[[onnx.ModelProto], None]) -> Path:
    """The artifact with another model, and a manifest that agrees."""
    model = onnx.load(artifact.model_path)
    change(model)
    content = model.SerializeToString()
    artifact.model_path.write_bytes(content)
    manifest = dict(artifact.manifest)
    manifest["files"] = {**manifest["files"], "model.onnx": hashlib.sha256(content).hexdigest()}
    (artifact.path / MANIFEST).write_bytes(sealed(manifest))
    return artifact.path


def planted(name: str, change: Callable[[np.ndarray], None]) -> Callable[[onnx.ModelProto], None]:
    def plant(model: onnx.ModelProto) -> None:
        (tensor,) = [tensor for graph in graphs(model.graph) for tensor in graph.initializer if tensor.name == name]
        array = numpy_helper.to_array(tensor).copy()
        change(array)
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return plant


def one_code(array: np.ndarray) -> None:
    array[3, 0, 5] += 1


def one_scale(array: np.ndarray) -> None:
    array[7] *= np.float32(1.01)


def one_bias(array: np.ndarray) -> None:
    array[2] += np.float32(1e-4)


def read_and_run(path: Path, scratch: Path, case: str) -> tuple[Result, Result]:
    """The row of the file, and that of one case on ONNX Runtime."""
    scratch.mkdir()
    subject = only(subject_of_artifact(path, scratch), case)
    (file,) = subject.findings
    row, *_ = rows_of(subject, RUNTIMES.get("onnxruntime-cpu"))
    return file, row


class TestFaults:
    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity"])
    @pytest.mark.parametrize(
        ("name", "change"),
        [("R_l0", one_code), ("R_scale_l0", one_scale), ("B_l0", one_bias), ("W_l0", lambda array: one_bias(array[0]))],
        ids=["code", "scale", "bias", "input weight"],
    )
    def test_each_is_read_back_and_shows_in_the_steps(self, nonlinearity, name, change, tmp_path):
        artifact = export(f"rnn:8,64,{nonlinearity}", tmp_path / "net", form="int8")
        file, row = read_and_run(changed(artifact, planted(name, change)), tmp_path / "scratch", "T=10 B=8")
        assert file.code == "weights"
        assert file.detail.startswith(f"{name} differs from the checkpoint in 1 values")
        assert (row.status, row.code) == (Status.MISMATCH, "step-residual")
        assert "no arithmetic explains it" in row.detail

    def test_the_original_weights_are_another_network(self, tmp_path):
        artifact = export("rnn:8,64", tmp_path / "net", form="int8")
        original = draw("hoisted", artifact.weights(), 18)
        path = changed(artifact, lambda model: model.CopyFrom(original))
        _, row = read_and_run(path, tmp_path / "scratch", "T=5 B=3")
        assert (row.status, row.code) == (Status.MISMATCH, "step-residual")
        assert row.residual > 100

    def test_a_tensor_of_integers_that_no_form_has_is_found(self, tmp_path):
        def add(model: onnx.ModelProto) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 2), np.uint8), "stray"))

        rows = verify(changed(export("rnn:3,4", tmp_path / "net"), add), runtimes=["onnxruntime-cpu"]).results
        (file,) = [row for row in rows if row.runtime == "file"]
        assert (file.code, file.detail) == ("weights", "the file holds stray, which the form scan does not have")


class TestArtifact:
    @pytest.mark.parametrize("text", SPECS)
    def test_its_golden_data_is_what_the_file_computes(self, text, tmp_path):
        artifact = export(with_head(text), tmp_path / "net", form="int8")
        tolerances = json.loads((artifact.path / "data.json").read_text())
        session = onnxruntime.InferenceSession(artifact.model_path, providers=["CPUExecutionProvider"])
        for place in sorted(artifact.path.glob("test_data_set_*")):
            tensors = {file.stem: onnx.load_tensor(file) for file in place.glob("*.pb")}
            arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors.values()}
            given = {name: arrays[name] for name in ("input", "h_0")}
            for name, found in zip(["output", "h_n", "prediction"], session.run(None, given), strict=True):
                np.testing.assert_allclose(found, arrays[name], **tolerances)
        assert tolerances["atol"] < 0.3  # and no tolerance for anything

    def test_it_keeps_the_original_weights(self, tmp_path):
        weights = random_weights("rnn:3,40")
        kept = export(weights, tmp_path / "net", form="int8").weights()
        assert all(kept[name].tobytes() == weights[name].tobytes() for name in weights)
        assert any(kept[name].tobytes() != array.tobytes() for name, array in network_of("int8", weights).items())

    def test_large_weights_lie_beside_it(self, tmp_path, monkeypatch):
        for module in (forms, _external, inspection):
            monkeypatch.setattr(module, "EXTERNAL_ABOVE", 0)
        artifact = export("rnn:3,40,layers=2", tmp_path / "net", form="int8")
        model = onnx.load(artifact.model_path, load_external_data=False)
        beside = {tensor.name.partition("_l")[0] for tensor in _external.declared(model)}
        assert beside == {"W", "R", "R_scale", "B"}
        assert verify(artifact.path, runtimes=["onnxruntime-cpu"]).exit_code == 0

    def test_the_weights_take_a_quarter(self, tmp_path):
        sizes = {
            form: export("rnn:8,512", tmp_path / form, form=form).model_path.stat().st_size
            for form in ("hoisted", "int8")
        }
        assert sizes["int8"] < 0.32 * sizes["hoisted"]  # and a scale for every 32


class TestRefused:
    @pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
    def test_a_network_of_another_type(self, dtype):
        with pytest.raises(UsageError, match=f"this one is in {dtype}.*--dtype float32"):
            draw("int8", Weights.random(RNNSpec(3, 4), 0, dtype), 22)

    def test_by_a_runtime_that_has_no_such_operator(self, tmp_path):
        artifact = export("rnn:3,4", tmp_path / "net", form="int8")
        rows = verify(artifact.path, runtimes=["onnx-reference"]).results
        assert {row.status for row in cases_of(rows, "onnx-reference")} == {Status.REFUSED}


def test_whoever_exports_it_is_told_that_it_is_another_network():
    drift, pays = quantisation_notes("int8")
    assert "another network" in drift
    assert "512 hidden units" in pays
    assert quantisation_notes("scan") == []
