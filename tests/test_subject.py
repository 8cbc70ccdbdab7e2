"""What is verified is fixed before anything runs: copied, checked, and held against the weights bit for bit."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rnn_export.artifact import MANIFEST, Artifact, sealed
from rnn_export.checkpoint import load_checkpoint, save_weights
from rnn_export.errors import ArtifactError
from rnn_export.forms import draw, network_of
from rnn_export.pipeline import export
from rnn_export.result import Stage, Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec
from rnn_export.subject import subject_of_artifact, subject_of_model
from rnn_export.weights import Weights
from tests.subjects import random_weights


@pytest.fixture
def scratch(tmp_path):
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def rewrite(path: Path, name: str, content: bytes) -> None:
    """Change a file and its hash, so that the manifest agrees."""
    manifest = dict(Artifact.load(path).manifest)
    (path / name).write_bytes(content)
    manifest["files"] = {**manifest["files"], name: hashlib.sha256(content).hexdigest()}
    (path / MANIFEST).write_bytes(sealed(manifest))


class TestArtifacts:
    @pytest.mark.parametrize("form", ["scan", "rnn"])
    def test_a_whole_one_holds_its_weights(self, tmp_path, scratch, form):
        artifact = export("rnn:3,4,relu,layers=2", tmp_path / "out", form=form)
        subject = subject_of_artifact(artifact.path, scratch)
        assert (subject.name, subject.form, str(subject.weights.spec)) == ("out", form, "RNN(3 -> 4, relu, 2 layers)")
        (finding,) = subject.findings
        assert (finding.runtime, finding.stage, finding.status) == ("file", Stage.COMPARE, Status.PASS)
        assert len({value.layer for value in subject.shown}) == 2

    def test_a_quantised_one_is_held_against_what_it_computes_and_keeps_what_it_was_made_from(self, tmp_path, scratch):
        artifact = export("rnn:3,40", tmp_path / "out", form="int8")
        subject = subject_of_artifact(artifact.path, scratch)
        original, computed = artifact.weights(), network_of("int8", artifact.weights())
        assert subject.original is not None
        for name in original:
            assert subject.original[name].tobytes() == original[name].tobytes()
            assert subject.weights[name].tobytes() == computed[name].tobytes()
        torchs = load_checkpoint(subject.folder / "weights.safetensors").weights
        assert torchs["weight_hh_l0"].tobytes() == computed["weight_hh_l0"].tobytes()
        assert subject.asked == subject.asked_of(RUNTIMES.get("onnxruntime-cpu")) == "int8"
        assert subject.asked_of(RUNTIMES.get("torch")) == "float32"
        assert subject.asked_of(RUNTIMES.get("onnxruntime-cuda-tf32")) == "TF32"

    def test_one_that_is_not_quantised_is_held_against_the_checkpoint(self, tmp_path, scratch):
        subject = subject_of_artifact(export("rnn:3,4", tmp_path / "out").path, scratch)
        assert (subject.original, subject.asked) == (None, "float32")

    def test_one_layer_needs_no_copy_that_shows_its_layers(self, tmp_path, scratch):
        subject = subject_of_artifact(export("rnn:3,4", tmp_path / "out").path, scratch)
        assert (subject.instrumented, subject.shown) == (None, [])

    def test_what_runs_is_a_copy_that_nobody_else_writes(self, tmp_path, scratch):
        artifact = export("rnn:3,4", tmp_path / "out")
        before = artifact.model_path.read_bytes()
        subject = subject_of_artifact(artifact.path, scratch)
        artifact.model_path.write_bytes(b"changed after the check")
        assert subject.folder.is_relative_to(scratch)
        assert (subject.folder / "model.onnx").read_bytes() == before

    def test_a_weight_that_was_changed_with_its_manifest_is_found_in_the_file(self, tmp_path, scratch):
        artifact = export("rnn:3,4", tmp_path / "out", form="rnn")
        model = onnx.load(artifact.model_path)
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "R_0")
        array = numpy_helper.to_array(tensor).copy()
        array[0, 0, 0] = np.nextafter(array[0, 0, 0], np.float32(1))
        tensor.CopyFrom(numpy_helper.from_array(array, "R_0"))
        rewrite(artifact.path, "model.onnx", model.SerializeToString())
        (finding,) = subject_of_artifact(artifact.path, scratch).findings
        assert (finding.status, finding.code) == (Status.MISMATCH, "weights")
        assert finding.detail.startswith("R_0 differs from the checkpoint in 1 values, first at [0, 0, 0]")

    def test_weights_of_another_network_are_refused(self, tmp_path, scratch):
        artifact = export("rnn:3,4", tmp_path / "out")
        save_weights(tmp_path / "other.safetensors", random_weights("rnn:3,4,relu"))
        rewrite(artifact.path, "weights.safetensors", (tmp_path / "other.safetensors").read_bytes())
        with pytest.raises(ArtifactError, match=r"are those of RNN\(3 -> 4, relu\), not RNN\(3 -> 4, tanh\)"):
            subject_of_artifact(artifact.path, scratch)

    def test_a_model_that_is_none_is_refused_though_its_manifest_agrees(self, tmp_path, scratch):
        artifact = export("rnn:3,4", tmp_path / "out")
        rewrite(artifact.path, "model.onnx", b"no model")
        with pytest.raises(ArtifactError, match="not a valid ONNX model"):
            subject_of_artifact(artifact.path, scratch)

    def test_a_damaged_one_and_a_folder_that_is_none_are_refused(self, tmp_path, scratch):
        artifact = export("rnn:3,4", tmp_path / "out")
        artifact.model_path.write_bytes(b"damaged")
        with pytest.raises(ArtifactError, match=r"model\.onnx in .* was changed"):
            subject_of_artifact(artifact.path, scratch)
        with pytest.raises(ArtifactError, match="is not an artifact"):
            subject_of_artifact(scratch, scratch)

    def test_a_form_that_nobody_knows_is_the_artifacts_fault(self, tmp_path, scratch):
        artifact = export("rnn:3,4", tmp_path / "out")
        manifest = dict(artifact.manifest)
        (artifact.path / MANIFEST).write_bytes(sealed({**manifest, "form": "of the future"}))
        with pytest.raises(ArtifactError, match="of the future"):
            subject_of_artifact(artifact.path, scratch)


class TestForeignFiles:
    def test_weights_under_other_names_are_recognised(self, tmp_path, scratch):
        weights = random_weights("rnn:3,4,layers=2")
        model = draw("rnn", weights, 18)
        for tensor in model.graph.initializer:
            for node in model.graph.node:
                node.input[:] = [f"x{name}" if name == tensor.name else name for name in node.input]
            tensor.name = f"x{tensor.name}"
        onnx.save(model, tmp_path / "model.onnx")
        subject = subject_of_model(tmp_path / "model.onnx", weights, scratch)
        assert [(finding.status, finding.detail) for finding in subject.findings] == [
            (Status.PASS, "the file holds the source's weights, bit for bit")
        ]
        assert (subject.name, subject.form) == ("model.onnx", None)

    def test_weights_that_are_not_recognised_are_said_and_no_fault(self, tmp_path, scratch):
        """Somebody else's transformation of them is no fault: the runtimes decide."""
        onnx.save(draw("scan", random_weights("rnn:3,4"), 18), tmp_path / "model.onnx")
        other = random_weights("rnn:3,4,seed=1")
        (finding,) = subject_of_model(tmp_path / "model.onnx", other, scratch).findings
        assert (finding.status, finding.code) == (Status.DIVERGENCE, "weights-unknown")

    def test_weights_beside_the_model_are_staged_with_it(self, tmp_path, scratch):
        weights = Weights.random(RNNSpec(3, 40), 0)
        path = tmp_path / "model.onnx"
        options = {"save_as_external_data": True, "location": "model.data", "size_threshold": 0}
        onnx.save_model(draw("rnn", weights, 18), path, **options)
        assert (tmp_path / "model.data").stat().st_size > 4 * 40 * 40
        subject = subject_of_model(path, weights, scratch)
        assert [finding.status for finding in subject.findings] == [Status.PASS]
        (tmp_path / "model.data").unlink()
        staged = onnx.load(subject.folder / "model.onnx")
        assert not any(tensor.external_data for tensor in staged.graph.initializer)

    def test_weights_beside_the_model_that_are_gone_are_damage(self, tmp_path, scratch):
        path = tmp_path / "model.onnx"
        options = {"save_as_external_data": True, "location": "model.data", "size_threshold": 0}
        onnx.save_model(draw("rnn", random_weights("rnn:3,4"), 18), path, **options)
        (tmp_path / "model.data").unlink()
        with pytest.raises(ArtifactError, match=r"model\.onnx is not a valid ONNX model"):
            subject_of_model(path, random_weights("rnn:3,4"), scratch)

    def test_the_staged_folder_has_the_weights_for_the_reference_row(self, tmp_path, scratch):
        weights = random_weights("rnn:3,4,relu")
        onnx.save(draw("scan", weights, 18), tmp_path / "model.onnx")
        subject = subject_of_model(tmp_path / "model.onnx", weights, scratch)
        found = load_checkpoint(subject.folder / "weights.safetensors").weights
        assert found.spec == weights.spec
        assert all(np.array_equal(found[name], weights[name]) for name in weights)

    def test_another_networks_file_does_not_fit(self, tmp_path, scratch):
        onnx.save(draw("scan", random_weights("rnn:3,4"), 18), tmp_path / "model.onnx")
        with pytest.raises(ArtifactError, match=r"the input input has shape .* takes 3 axes, I = 5"):
            subject_of_model(tmp_path / "model.onnx", random_weights("rnn:5,4"), scratch)


def test_an_artifact_that_a_kill_left_aside_is_verified(tmp_path, scratch):
    """Between the two renames there is no folder at its place: the old one is put back first."""
    artifact = export("rnn:3,4", tmp_path / "out")
    artifact.path.rename(tmp_path / ".out.rnn-export-old")
    assert subject_of_artifact(tmp_path / "out", scratch).name == "out"
    assert not (tmp_path / ".out.rnn-export-old").exists()
