"""An artifact is the same bytes everywhere, any damage to it is found, and other people's runners accept it."""

import json
import os
import shutil
import subprocess
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.backend.base import Backend
from onnx.backend.test import loader
from onnx.backend.test import runner as onnx_runner

from rnn_export.artifact import GOLDEN, Artifact, is_artifact, write_artifact
from rnn_export.checkpoint import Checkpoint, load_checkpoint
from rnn_export.element_types import FLOATS
from rnn_export.errors import ArtifactError, OutputError
from rnn_export.forms import draw
from rnn_export.manifest import MANIFEST, VERIFICATION, digest_of
from rnn_export.oracle import run_oracle
from rnn_export.pipeline import export
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

ROOT = Path(__file__).parent.parent
FILES = [
    "data.json",
    "model.onnx",
    *(f"test_data_set_{n}/{kind}_{k}.pb" for n in range(len(GOLDEN)) for kind in ("input", "output") for k in (0, 1)),
    "weights.safetensors",
]


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    return export("rnn:3,4,relu,layers=2,bidirectional", tmp_path_factory.mktemp("master") / "out").path


@pytest.fixture
def artifact(master, tmp_path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(master, tmp_path / "out"))


class TestContent:
    def test_it_is_these_files_and_the_manifest_lists_them(self, master):
        assert sorted(content(master)) == sorted([*FILES, MANIFEST])
        manifest = Artifact.load(master).manifest
        assert sorted(manifest["files"]) == sorted(FILES)

    @pytest.mark.parametrize("form", ["scan", "rnn"])
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_it_says_what_it_is(self, tmp_path, form, dtype):
        weights = Weights.random(RNNSpec(3, 4, 2, "relu", batch_first=True), 5, dtype)
        opset = 22 if dtype == "bfloat16" else 17
        found = Artifact.load(export(weights, tmp_path / "out", form=form, opset=opset).path)
        assert (found.spec, found.form, found.opset) == (weights.spec, form, opset)
        assert found.manifest["dtype"] == dtype
        assert set(found.manifest["versions"]) == {"rnn-export", "numpy", "onnx"}
        assert all(found.weights()[name].tobytes() == weights[name].tobytes() for name in weights)
        model = onnx.load(found.model_path)
        assert (model.opset_import[0].version, model.ir_version) == (opset, found.manifest["ir_version"])

    def test_the_source_is_named_without_its_folder(self, tmp_path, master):
        found = export(master / "weights.safetensors", tmp_path / "again")
        assert found.manifest["source"]["name"] == "weights.safetensors"
        assert found.manifest["source"]["sha256"] == Artifact.load(master).manifest["files"]["weights.safetensors"]

    @pytest.mark.parametrize("batch_first", [False, True])
    def test_the_golden_data_are_the_oracles(self, tmp_path, batch_first):
        weights = Weights.random(RNNSpec(3, 4, 2, batch_first=batch_first), 0)
        path = export(weights, tmp_path / "out").path
        for number, (T, B) in enumerate(GOLDEN):
            place = path / f"test_data_set_{number}"
            files = [place / f"{name}.pb" for name in ("input_0", "input_1", "output_0", "output_1")]
            tensors = [onnx.load_tensor(file) for file in files]
            assert [tensor.name for tensor in tensors] == ["input", "h_0", "output", "h_n"]
            x, h_0, output, h_n = (numpy_helper.to_array(tensor) for tensor in tensors)
            assert x.shape == ((B, T, 3) if batch_first else (T, B, 3))
            truth = run_oracle(weights, x.swapaxes(0, 1) if batch_first else x, h_0)
            expected = truth.output.swapaxes(0, 1) if batch_first else truth.output
            assert np.array_equal(output, expected.astype(np.float32))
            assert np.array_equal(h_n, truth.h_n.astype(np.float32))

    @pytest.mark.parametrize("gain", [1, 30])
    def test_the_tolerance_for_other_peoples_runners_grows_with_the_outputs(self, tmp_path, gain):
        plain = Weights.random(RNNSpec(3, 4, nonlinearity="relu"), 0)
        weights = Weights(plain.spec, {name: array * np.float32(gain) for name, array in plain.items()})
        path = export(weights, tmp_path / "out").path
        outputs = [onnx.load_tensor(file) for file in path.glob("*/output_0.pb")]
        largest = max(1.0, *(float(np.abs(numpy_helper.to_array(tensor)).max()) for tensor in outputs))
        assert (gain == 1) == (largest < 10)
        data = json.loads((path / "data.json").read_text())
        assert data == {"rtol": 1e-3, "atol": pytest.approx(1e-5 * largest)}

    def test_the_golden_data_exercise_the_recurrence(self, master):
        tensors = [onnx.load_tensor(master / "test_data_set_0" / f"input_{k}.pb") for k in (0, 1)]
        x, h_0 = (numpy_helper.to_array(tensor) for tensor in tensors)
        assert len(x) > 1
        assert (x < 0).any()
        assert h_0.all()


class OnnxRuntime(Backend):
    """What onnx.backend.test needs of a runtime."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> Any:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

        class Prepared:
            def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
                return session.run(None, dict(zip(names, inputs, strict=True)))

        return Prepared()


class TestOtherPeoplesRunners:
    """ONNX's own backend test, pointed at a folder of artifacts instead of its own."""

    @pytest.fixture
    def outcome(self, monkeypatch, tmp_path) -> Callable[[], unittest.TestResult]:
        def run() -> unittest.TestResult:
            def only_ours(kind: str) -> list:
                return loader.load_model_tests(str(tmp_path), kind) if kind == "simple" else []

            monkeypatch.setattr(onnx_runner, "load_model_tests", only_ours)
            result = unittest.TestResult()
            onnx_runner.Runner(OnnxRuntime, __name__).test_suite.run(result)
            return result

        return run

    def test_an_artifact_of_every_kind_is_accepted(self, tmp_path, outcome):
        specs = ["rnn:3,4", "rnn:3,4,relu,layers=2,bidirectional", "rnn:3,4,batch-first,no-bias", "rnn:20,64,relu"]
        for number, spec in enumerate(specs):
            for form in ("scan", "rnn"):
                export(spec, tmp_path / "simple" / f"test_{form}_{number}", form=form)
        double = Weights.random(RNNSpec(3, 4, 2), 0, "float64")
        export(double, tmp_path / "simple" / "test_double", form="scan")
        for form in ("scan", "rnn"):
            half = Weights.random(RNNSpec(20, 64, 2, "relu"), 0, "float16")
            export(half, tmp_path / "simple" / f"test_half_{form}", form=form)
        result = outcome()
        assert (result.failures, result.errors) == ([], [])
        assert result.testsRun - len(result.skipped) == 2 * len(specs) + 3

    @pytest.mark.parametrize("damage", ["output_0", "output_1"])
    def test_a_wrong_golden_value_is_not_accepted(self, tmp_path, outcome, damage):
        path = export("rnn:3,4", tmp_path / "simple" / "test_wrong").path
        file = path / "test_data_set_1" / f"{damage}.pb"
        array = numpy_helper.to_array(onnx.load_tensor(file)).copy()
        array[0, 0, 0] += 0.01
        file.write_bytes(numpy_helper.from_array(array).SerializeToString())
        assert len(outcome().failures) == 1


class TestSameBytes:
    def test_two_exports_are_the_same_bytes(self, tmp_path, master):
        again = export("rnn:3,4,relu,layers=2,bidirectional", tmp_path / "elsewhere" / "other-name").path
        assert content(again) == content(master)

    def test_another_process_with_other_hashes_in_another_folder_makes_the_same_bytes(self, tmp_path, master):
        line = [sys.executable, "-m", "rnn_export", "export", "rnn:3,4,relu,layers=2,bidirectional", "-o", "out"]
        for seed in ("1", "2"):
            place = tmp_path / seed
            place.mkdir()
            environment = {"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LANG": "C", "HOME": str(place), "COLUMNS": "40"}
            subprocess.run(line, cwd=place, env=environment, check=True, capture_output=True)
            assert content(place / "out") == content(master)

    @pytest.mark.parametrize("form", ["scan", "rnn"])
    def test_no_file_holds_a_path_of_this_machine(self, tmp_path, form):
        weights = tmp_path / "somewhere" / "net.safetensors"
        weights.parent.mkdir()
        shutil.copy(export("rnn:3,4", tmp_path / "first").path / "weights.safetensors", weights)
        places = [Path.home(), tmp_path, ROOT, Path(sys.prefix), Path.cwd()]
        for name, data in content(export(weights, tmp_path / "out", form=form).path).items():
            for place in {str(place).encode() for place in places if len(place.parts) > 1}:
                assert place not in data, f"{name} holds {place!r}"

    def test_the_same_artifact_at_the_same_place_changes_nothing(self, artifact):
        before = content(artifact)
        export("rnn:3,4,relu,layers=2,bidirectional", artifact)
        assert content(artifact) == before


class TestReplacing:
    def test_nothing_of_the_old_one_stays(self, artifact):
        old = Artifact.load(artifact).weights()
        export("rnn:2,3", artifact)
        found = content(artifact)
        assert sorted(found) == sorted([*FILES, MANIFEST])
        for name, array in old.items():
            assert not any(array.tobytes() in data for data in found.values()), name

    def test_what_somebody_put_beside_the_model_is_kept(self, artifact):
        (artifact / "notes.txt").write_text("mine")
        before = content(artifact)
        with pytest.raises(OutputError, match="holds other files"):
            export("rnn:2,3", artifact)
        assert content(artifact) == before

    def test_a_damaged_one_may_be_replaced(self, artifact):
        (artifact / "model.onnx").write_bytes(b"damaged")
        assert is_artifact(artifact)
        assert export("rnn:2,3", artifact).spec == RNNSpec(2, 3)

    def test_writing_what_cannot_be_written_changes_nothing(self, artifact, monkeypatch):
        checkpoint = load_checkpoint("rnn:2,3")
        before = content(artifact)
        monkeypatch.setattr("rnn_export.artifact._write_golden", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_artifact(artifact, checkpoint, draw("scan", checkpoint.weights, 18), "scan", ())
        assert content(artifact) == before
        assert [path.name for path in artifact.parent.iterdir()] == ["out"]


def damage_manifest(**changes: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        manifest = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).write_text(json.dumps({**manifest, **changes}))

    return damage


def rename_file(path: Path) -> None:
    (path / "model.onnx").rename(path / "Model.onnx")


def link_file(path: Path) -> None:
    (path / "model.onnx").rename(path.parent / "model.onnx")
    (path / "model.onnx").symlink_to(path.parent / "model.onnx")


def link_folder(path: Path) -> None:
    (path / "test_data_set_0").rename(path.parent / "data")
    (path / "test_data_set_0").symlink_to(path.parent / "data")


def link_manifest(path: Path) -> None:
    (path / MANIFEST).rename(path.parent / MANIFEST)
    (path / MANIFEST).symlink_to(path.parent / MANIFEST)


def swap_files(path: Path) -> None:
    for source, target in (("input_0", "x"), ("output_0", "input_0"), ("x", "output_0")):
        (path / "test_data_set_0" / f"{source}.pb").rename(path / "test_data_set_0" / f"{target}.pb")


DAMAGE: dict[str, Any] = {
    "a file is missing": lambda path: (path / "weights.safetensors").unlink(),
    "a data set is missing": lambda path: shutil.rmtree(path / "test_data_set_2"),
    "a file was added": lambda path: (path / "extra.bin").write_bytes(b"x"),
    "a file was added in a data set": lambda path: (path / "test_data_set_0" / "input_2.pb").touch(),
    "a hidden file was added": lambda path: (path / ".hidden").touch(),
    "a second manifest": lambda path: shutil.copy(path / MANIFEST, path / "test_data_set_0" / MANIFEST),
    "a file was renamed": rename_file,
    "two files were swapped": swap_files,
    "a file is a link": link_file,
    "a data set is a link": link_folder,
    "a link was added": lambda path: (path / "extra").symlink_to(path / "model.onnx"),
    "a dangling link was added": lambda path: (path / "extra").symlink_to(path / "nowhere"),
    "a file became a folder": lambda path: [(path / "data.json").unlink(), (path / "data.json").mkdir()],
    "a file is empty": lambda path: (path / "model.onnx").write_bytes(b""),
    "a file is longer": lambda path: (path / "data.json").write_bytes((path / "data.json").read_bytes() + b"\n"),
    "the manifest is missing": lambda path: (path / MANIFEST).unlink(),
    "the manifest is empty": lambda path: (path / MANIFEST).write_bytes(b""),
    "the manifest is cut": lambda path: (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes()[:-20]),
    "the manifest is no text": lambda path: (path / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "the manifest is a list": lambda path: (path / MANIFEST).write_text("[]"),
    "the manifest is a number": lambda path: (path / MANIFEST).write_text("5"),
    "of another schema": damage_manifest(schema=2),
    "of a schema that is none": damage_manifest(schema=[1]),
    "without a spec": damage_manifest(spec=None),
    "of an impossible spec": damage_manifest(spec={"input_size": 0}),
    "no list of files": damage_manifest(files=5),
    "a list of files": damage_manifest(files=["model.onnx"]),
    "hashes that are none": damage_manifest(files=dict.fromkeys(FILES)),
    "hashes of nothing": damage_manifest(files={}),
}
UNSEEN: dict[str, Any] = {
    "the manifest is nested too deeply": lambda path: (path / MANIFEST).write_text("[" * 100_000),
    "the manifest is a link": link_manifest,
    "an empty folder was added": lambda path: (path / "extra").mkdir(),
    "a form that nobody knows": damage_manifest(form="of the future"),
    "an opset that is none": damage_manifest(opset="new"),
    "an opset that is not the model's": damage_manifest(opset=17),
    "a type that is none": damage_manifest(dtype="float8"),
    "another spec": damage_manifest(spec=RNNSpec(3, 4).to_dict()),
}


class TestDamage:
    def test_a_whole_one_is_whole(self, artifact):
        assert Artifact.load(artifact).path == artifact
        assert Artifact.load(str(artifact)).path == artifact

    @pytest.mark.parametrize("kind", DAMAGE)
    def test_it_is_found_and_said(self, artifact, kind):
        DAMAGE[kind](artifact)
        with pytest.raises(ArtifactError) as caught:
            Artifact.load(artifact)
        assert str(artifact) in str(caught.value)
        assert caught.value.hint
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", UNSEEN)
    def test_damage_that_the_hashes_do_not_cover_is_found(self, artifact, kind):
        UNSEEN[kind](artifact)
        with pytest.raises(ArtifactError):
            Artifact.load(artifact)

    @given(st.sampled_from(FILES), st.integers(0, 2**20), st.integers(0, 7))
    def test_one_flipped_bit_anywhere_is_found(self, master, tmp_path_factory, name, place, bit):
        path = tmp_path_factory.mktemp("flipped") / "out"
        shutil.copytree(master, path)
        raw = bytearray((path / name).read_bytes())
        raw[place % len(raw)] ^= 1 << bit
        (path / name).write_bytes(raw)
        with pytest.raises(ArtifactError, match="was changed after it was exported") as caught:
            Artifact.load(path)
        assert name in str(caught.value)
        shutil.rmtree(path)

    def test_one_flipped_bit_of_the_manifest_is_found(self, artifact):
        whole = (artifact / MANIFEST).read_bytes()
        unseen = []
        for place in range(0, len(whole), 3):
            (artifact / MANIFEST).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            try:
                Artifact.load(artifact)
            except ArtifactError:
                continue
            unseen.append(whole[max(0, place - 20) : place + 1])
        assert not unseen

    def test_a_pipe_in_the_place_of_a_file_is_damage_and_no_wait(self, artifact):
        (artifact / "model.onnx").unlink()
        os.mkfifo(artifact / "model.onnx")
        script = (
            f"from rnn_export import Artifact\ntry: Artifact.load({str(artifact)!r})\nexcept Exception as e: print(e)"
        )
        line = [sys.executable, "-c", script]
        done = subprocess.run(line, capture_output=True, text=True, timeout=3, check=True)
        assert "model.onnx" in done.stdout

    def test_a_folder_that_is_replaced_while_it_is_read_is_no_accident(self, artifact, monkeypatch):
        from rnn_export import differences as module

        real = module.sha256_of

        def remove_and_read(file: Path) -> str:
            shutil.rmtree(artifact, ignore_errors=True)
            return real(file)

        monkeypatch.setattr(module, "sha256_of", remove_and_read)
        with pytest.raises(ArtifactError):
            Artifact.load(artifact)

    def test_all_that_is_wrong_is_counted(self, artifact):
        (artifact / "model.onnx").write_bytes(b"")
        (artifact / "extra").touch()
        with pytest.raises(ArtifactError, match=r"holds extra, .* \(and 1 more: rnn-export check lists all\)"):
            Artifact.load(artifact)

    def test_exposure_is_no_damage(self, artifact, tmp_path):
        """A backup of hard links, a file system without modes: the content is right."""
        (tmp_path / "backup").hardlink_to(artifact / "model.onnx")
        (artifact / "data.json").chmod(0o777)
        assert Artifact.load(artifact).path == artifact

    def test_what_a_verification_left_there_does_not_hinder_loading(self, artifact):
        (artifact / VERIFICATION).write_bytes(b"damaged")
        assert Artifact.load(artifact).digest == digest_of(artifact)
        assert is_artifact(artifact)

    @pytest.mark.parametrize("place", ["test_data_set_0/verification.json", "Verification.json"])
    def test_elsewhere_it_is_an_extra_file(self, artifact, place):
        (artifact / place).touch()
        with pytest.raises(ArtifactError, match=f"holds {place}"):
            Artifact.load(artifact)
        assert not is_artifact(artifact)

    def test_a_link_in_its_place_is_damage(self, artifact, tmp_path):
        (tmp_path / "elsewhere").touch()
        (artifact / VERIFICATION).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ArtifactError, match=r"verification\.json in .* it is a link"):
            Artifact.load(artifact)

    def test_a_pipe_in_its_place_is_damage(self, artifact):
        os.mkfifo(artifact / VERIFICATION)
        with pytest.raises(ArtifactError, match="it is a pipe"):
            Artifact.load(artifact)

    def test_what_is_no_artifact_is_told_apart(self, tmp_path):
        with pytest.raises(ArtifactError, match="does not exist"):
            Artifact.load(tmp_path / "nothing")
        with pytest.raises(ArtifactError, match=r"it has no manifest\.json"):
            Artifact.load(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(ArtifactError, match=r"it has no manifest\.json"):
            Artifact.load(tmp_path / "file")

    def test_only_what_says_so_is_an_artifact(self, artifact, tmp_path):
        assert is_artifact(artifact)
        assert not is_artifact(tmp_path)
        assert not is_artifact(tmp_path / "nothing")
        (artifact / MANIFEST).write_text('{"name": "some web app"}')
        assert not is_artifact(artifact)


def test_a_module_artifact_says_which_torch_drew_it(tmp_path):
    checkpoint = Checkpoint(Weights.random(RNNSpec(3, 4), 0), (), {"name": "x"})
    model = draw("scan", checkpoint.weights, 18)
    found = write_artifact(tmp_path / "out", checkpoint, model, "module", ("torch", "onnxscript"))
    assert set(found.manifest["versions"]) == {"rnn-export", "numpy", "onnx", "torch", "onnxscript"}
