"""The two functions of the library: what they take, what they give back, and that nothing is written in vain."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rnn_export import SingleMatrixRNN, TwoMatrixRNN, Weights, export, from_torch, to_torch, verify
from rnn_export.checkpoint import Checkpoint, save_weights
from rnn_export.element_types import FLOATS
from rnn_export.errors import ArtifactError, SourceError, UsageError
from rnn_export.pipeline import DEFAULT_OPSET
from rnn_export.result import Stage, Status
from rnn_export.spec import RNNSpec

CPU = ["onnx-reference"]


def same(first: Weights, second: Weights) -> bool:
    return first.spec == second.spec and all(np.array_equal(first[name], second[name]) for name in first)


class TestExport:
    @pytest.mark.parametrize(
        "make",
        [nn.RNN, SingleMatrixRNN, TwoMatrixRNN],
        ids=lambda make: f"{make.__module__.split('.')[0]}.{make.__name__}",
    )
    @pytest.mark.parametrize("options", [{}, {"num_layers": 2, "nonlinearity": "relu", "batch_first": True}], ids=str)
    def test_a_module_is_exported_as_it_is(self, tmp_path, make, options):
        module = make(3, 4, **options)
        artifact = export(module, tmp_path / "out")
        assert same(artifact.weights(), from_torch(module))
        assert artifact.manifest["source"] == {"name": make.__name__}

    def test_training_goes_on_after_an_export(self, tmp_path):
        module = nn.RNN(3, 4, num_layers=2, dropout=0.5).train()
        parameters = [parameter.detach().clone() for parameter in module.parameters()]
        export(module, tmp_path / "out")
        assert module.training
        assert torch.is_grad_enabled()
        assert all(torch.equal(old, new) for old, new in zip(parameters, module.parameters(), strict=True))

    @pytest.mark.parametrize("kind", ["path", "text", "weights", "checkpoint", "spec"])
    def test_every_kind_of_source_gives_the_same_network(self, tmp_path, kind):
        weights = Weights.random(RNNSpec(3, 4), 0)
        save_weights(tmp_path / "net.safetensors", weights)
        source = {
            "path": tmp_path / "net.safetensors",
            "text": str(tmp_path / "net.safetensors"),
            "weights": weights,
            "checkpoint": Checkpoint(weights, (), {"name": "anything"}),
            "spec": "rnn:3,4,seed=0",
        }[kind]
        assert same(export(source, str(tmp_path / "out")).weights(), weights)

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("make", [nn.RNN, SingleMatrixRNN])
    def test_a_module_of_every_type_is_exported_bit_for_bit(self, tmp_path, make, dtype):
        module = make(3, 4, dtype=getattr(torch, dtype))
        artifact = export(module, tmp_path / "out")
        assert artifact.manifest["dtype"] == dtype
        assert same(artifact.weights(), from_torch(module))

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("source", FLOATS)
    def test_weights_are_converted_as_torch_converts_them(self, tmp_path, source, dtype):
        weights = Weights.random(RNNSpec(3, 40), 0, source)
        artifact = export(weights, tmp_path / "out", dtype=dtype)
        converted = to_torch(weights).to(torch.float64).to(getattr(torch, dtype))
        assert same(artifact.weights(), from_torch(converted))

    def test_a_head_is_converted_with_the_network(self, tmp_path):
        state = {f"rnn.{k}": v for k, v in nn.RNN(3, 4).state_dict().items()}
        torch.save({**state, **nn.Linear(4, 2).state_dict(prefix="out.")}, tmp_path / "net.pt")
        artifact = export(tmp_path / "net.pt", tmp_path / "out", head="out", dtype="float16")
        report = verify(artifact.path, runtimes=["onnxruntime-cpu"])
        assert report.exit_code == 0
        assert artifact.checkpoint().head.weight.dtype == np.float16

    def test_somebody_elses_half_precision_is_held_against_a_float32_checkpoint(self, tmp_path):
        source = tmp_path / "net.pt"
        torch.save(nn.RNN(3, 4).state_dict(), source)
        model = export(source, tmp_path / "out", dtype="float16").model_path
        report = verify(model, against=source, dtype="float16", runtimes=["onnxruntime-cpu"])
        assert report.exit_code == 0
        assert verify(model, against=source, runtimes=["onnxruntime-cpu"]).exit_code == 1
        with pytest.raises(UsageError, match="dtype are about a source"):
            verify(tmp_path / "out", dtype="float16")

    def test_a_type_that_no_network_has_is_refused(self, tmp_path):
        with pytest.raises(SourceError, match=r"'int8' is no type of a network\. Choose float32, float64"):
            export("rnn:3,4", tmp_path / "out", dtype="int8")

    def test_the_defaults_are_the_quick_form_and_an_opset_that_everybody_reads(self, tmp_path):
        artifact = export("rnn:3,4", tmp_path / "out")
        assert (artifact.form, artifact.opset) == ("scan", DEFAULT_OPSET)

    def test_options_of_a_file_are_for_files(self, tmp_path):
        for options in ({"prefix": "rnn"}, {"nonlinearity": "relu"}, {"batch_first": True}):
            with pytest.raises(UsageError, match="are for files"):
                export(nn.RNN(3, 4), tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("source", "options", "error"),
        [
            ("rnn:3,4", {"form": "scam"}, UsageError),
            ("rnn:3,4", {"opset": 99}, UsageError),
            ("rnn:3", {}, SourceError),
            ("nowhere.pt", {}, SourceError),
            (nn.LSTM(3, 4), {}, SourceError),
            (nn.Linear(3, 4), {}, SourceError),
        ],
        ids=["form", "opset", "spec", "file", "LSTM", "Linear"],
    )
    def test_whatever_is_wrong_nothing_is_written(self, tmp_path, source, options, error):
        with pytest.raises(error):
            export(source, tmp_path / "deep" / "out", **options)
        assert list(tmp_path.iterdir()) == []

    def test_a_wrong_form_is_said_before_a_file_is_read(self, tmp_path):
        with pytest.raises(UsageError, match="unknown form"):
            export("nowhere.pt", tmp_path / "out", form="scam")

    def test_the_exporters_form_says_which_torch_drew_it(self, tmp_path):
        artifact = export("rnn:3,4", tmp_path / "out", form="module")
        assert artifact.manifest["versions"]["torch"] == torch.__version__
        assert "onnxscript" in artifact.manifest["versions"]
        data = artifact.model_path.read_bytes()
        project = Path(__file__).parent.parent
        assert not any(place in data for place in (bytes(tmp_path), bytes(project), b"site-packages", b".py"))


class TestVerify:
    def test_an_artifact_is_verified_on_what_was_named_and_on_nothing_else(self, tmp_path):
        artifact = export("rnn:3,4", tmp_path / "out")
        told: list[str] = []
        report = verify(artifact.path, runtimes=CPU, progress=lambda runtime, *_: told.append(runtime))
        assert {row.runtime for row in report.results} == {"file", "onnx-reference"}
        assert (report.exit_code, report.required, report.demanded) == (0, frozenset(CPU), frozenset())
        assert (report.artifact, report.form, report.network) == ("out", "scan", "RNN(3 -> 4, tanh)")
        assert set(told) == {"torch", "onnx-reference"}  # torch is what errors are compared with
        ratios = [row.ratio for row in report.results if row.ratio is not None]
        assert len(ratios) > 25
        assert all(0 <= ratio < 100 for ratio in ratios)

    def test_what_is_required_is_run_too_and_must_be_there(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))
        artifact = export("rnn:3,4", tmp_path / "out")
        report = verify(str(artifact.path), runtimes=["torch"], require=["onnxruntime-cuda"])
        assert {row.runtime for row in report.results} == {"file", "torch", "onnxruntime-cuda"}
        assert report.required == {"torch", "onnxruntime-cuda"}
        assert report.exit_code == 4

    def test_a_tampered_file_is_a_mismatch_whatever_the_runtimes_say(self, tmp_path):
        """A weight in the file that no case could move an output with: a dead unit of relu."""
        spec = RNNSpec(3, 4, nonlinearity="relu")
        arrays = {name: array.copy() for name, array in Weights.random(spec, 0).items()}
        arrays["bias_ih_l0"][2] = -1e6
        weights = Weights(spec, arrays)
        report = verify(self.tampered(tmp_path, weights), runtimes=["torch"])
        (finding,) = (row for row in report.results if row.runtime == "file")
        assert (finding.status, finding.code, finding.stage) == (Status.MISMATCH, "weights", Stage.COMPARE)
        assert report.exit_code == 1
        assert all(row.passed or row.status is Status.DIVERGENCE for row in report.results if row is not finding)

    def tampered(self, folder: Path, weights: Weights) -> Path:
        import hashlib
        import json

        import onnx
        from onnx import numpy_helper

        from rnn_export.artifact import sealed

        path = export(weights, folder / "out", form="rnn").path
        model = onnx.load(path / "model.onnx")
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "W_0")
        array = numpy_helper.to_array(tensor).copy()
        array[0, 2, 1] += 0.25
        tensor.CopyFrom(numpy_helper.from_array(array, "W_0"))
        onnx.save(model, path / "model.onnx")
        manifest = json.loads((path / "manifest.json").read_text())
        del manifest["sha256"]
        manifest["files"]["model.onnx"] = hashlib.sha256((path / "model.onnx").read_bytes()).hexdigest()
        (path / "manifest.json").write_bytes(sealed(manifest))
        return path

    @pytest.mark.parametrize("names", [{"runtimes": ["onnx-reference", "abacus"]}, {"require": ["abacus"]}])
    def test_an_unknown_runtime_is_said_before_anything_runs(self, tmp_path, names):
        told: list[str] = []
        with pytest.raises(UsageError, match="unknown runtime 'abacus'"):
            verify(tmp_path / "nothing", progress=lambda *what: told.append(str(what)), **names)
        assert told == []

    def test_a_file_needs_what_it_should_compute(self, tmp_path):
        artifact = export("rnn:3,4", tmp_path / "out")
        with pytest.raises(UsageError, match="is a file, not an artifact"):
            verify(artifact.model_path)
        with pytest.raises(ArtifactError, match="an artifact needs no --against"):
            verify(artifact.path, against="rnn:3,4")

    def test_a_module_can_be_what_a_file_should_compute(self, tmp_path):
        weights = Weights.random(RNNSpec(3, 4), 5)
        artifact = export(weights, tmp_path / "out", form="rnn")
        report = verify(artifact.model_path, against=to_torch(weights), runtimes=CPU)
        assert (report.exit_code, report.form, report.artifact) == (0, None, "model.onnx")

    def test_no_scratch_folder_is_left(self, tmp_path, monkeypatch):
        artifact = export("rnn:3,4", tmp_path / "out")
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
        verify(artifact.path, runtimes=CPU, timeout=0.001)  # every child is killed at once
        with pytest.raises(ArtifactError):
            verify(tmp_path / "nothing", runtimes=CPU)
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_of_the_artifact_nothing_is_changed_and_the_record_of_it_is_added(self, tmp_path):
        artifact = export("rnn:3,4", tmp_path / "out")
        before = {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()}
        verify(artifact.path, runtimes=CPU, timeout=0.001)
        after = {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()}
        assert after.pop(artifact.path / "verification.json")
        assert after == before
