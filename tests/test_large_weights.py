"""Weights that do not fit into one protobuf message lie beside the model; a low limit shows it with small networks."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from rnn_export import forms, inspection, oracle, weights
from rnn_export.artifact import Artifact, sealed
from rnn_export.blocks import Joined
from rnn_export.checkpoint import Checkpoint, load_checkpoint
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.forms import _external, constants_of, draw
from rnn_export.forms._external import ALIGNMENT, DATA, declared, read_in_place
from rnn_export.inspection import load_model, recognise_weights, weight_tensors
from rnn_export.module import SingleMatrixRNN
from rnn_export.oracle import run_oracle
from rnn_export.pipeline import export, verify
from rnn_export.result import Status
from rnn_export.safetensors_files import write_safetensors
from rnn_export.spec import RNNSpec
from rnn_export.subject import subject_of_artifact, subject_of_model
from rnn_export.weights import Head, Weights
from tests.peaks import MIB, peak_of
from tests.test_artifact import content

SPECS = [
    RNNSpec(3, 4),
    RNNSpec(3, 4, nonlinearity="relu", bias=False),
    RNNSpec(20, 30, 2, bidirectional=True),
    RNNSpec(3, 4, 3, batch_first=True),
]


@pytest.fixture
def no_room(monkeypatch):
    """Not one weight has room in the model."""
    for module in (forms, _external, inspection):
        monkeypatch.setattr(module, "EXTERNAL_ABOVE", 0)


@pytest.fixture
def artifact(tmp_path, no_room) -> Path:
    return export("rnn:3,4,layers=2,bidirectional", tmp_path / "out").path


def run(path: Path, spec: RNNSpec, extra: dict) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 5, spec.input_size)).astype(np.float32)
    h_0 = rng.uniform(-1, 1, (len(spec.cells()), 5, spec.hidden_size)).astype(np.float32)
    session = onnxruntime.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x, "h_0": h_0, **extra})


@pytest.mark.parametrize("form", ["scan", "rnn"])
@pytest.mark.parametrize(("dtype", "runtime"), [("float16", "onnxruntime-cpu"), ("bfloat16", "onnx-reference")])
def test_coarse_types_lie_beside_the_model_too(tmp_path, no_room, form, dtype, runtime):
    artifact = export("rnn:3,4", tmp_path / "out", form=form, opset=22, dtype=dtype)
    assert (artifact.path / DATA).exists()
    report = verify(artifact.path, runtimes=[runtime])
    assert report.exit_code == 0
    assert {row.precision for row in report.results if row.precision} == {dtype}


class TestArtifact:
    @pytest.mark.parametrize("form", ["scan", "rnn"])
    @pytest.mark.parametrize("spec", SPECS, ids=str)
    @pytest.mark.parametrize("lengths", [False, True], ids=["", "lengths"])
    def test_it_computes_the_same_bits_as_one_file(self, tmp_path, monkeypatch, form, spec, lengths):
        drawn = Weights.random(spec, 0)
        width = spec.num_directions * spec.hidden_size
        head = Head(np.ones((2, width), np.float32), np.arange(2, dtype=np.float32))
        source = Checkpoint(drawn, (), {"name": "a network"}, head)
        whole = export(source, tmp_path / "whole", form=form, lengths=lengths)
        monkeypatch.setattr(forms, "EXTERNAL_ABOVE", 0)
        beside = export(source, tmp_path / "beside", form=form, lengths=lengths)
        extra = {"lengths": np.array([5, 1, 3, 2, 4])} if lengths else {}
        for found, expected in zip(run(beside.path, spec, extra), run(whole.path, spec, extra), strict=True):
            assert found.tobytes() == expected.tobytes()
        own, other = content(beside.path), content(whole.path)
        assert set(own) - set(other) == {DATA}
        same = set(other) - {"model.onnx", "manifest.json"}
        assert {name: own[name] for name in same} == {name: other[name] for name in same}

    def test_every_weight_has_its_own_aligned_place(self, artifact):
        model = onnx.load(artifact / "model.onnx", load_external_data=False)
        expected = constants_of("scan", Artifact.load(artifact).weights())
        data, end = (artifact / DATA).read_bytes(), 0
        assert [tensor.name for tensor in declared(model)] == list(expected)
        for tensor in declared(model):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            assert entries.pop("location") == DATA
            offset, length = int(entries["offset"]), int(entries["length"])
            assert offset % ALIGNMENT == 0
            assert offset >= end
            end = offset + length
            assert data[offset:end] == np.asarray(expected[tensor.name]).tobytes()
        assert len(data) == end

    def test_two_exports_are_the_same_bytes(self, artifact, tmp_path):
        again = export("rnn:3,4,layers=2,bidirectional", tmp_path / "elsewhere" / "again").path
        assert content(again) == content(artifact)

    def test_a_head_and_float64_and_the_single_matrix_form_lie_there_too(self, tmp_path, no_room):
        network = SingleMatrixRNN(3, 4, 2).double()
        head = Head(np.ones((2, 4)), np.zeros(2))
        path = export(Checkpoint(network.to_weights(), (), {"name": "it"}, head), tmp_path / "out").path
        model = onnx.load(path / "model.onnx", load_external_data=False)
        names = {tensor.name for tensor in declared(model)}
        assert names == {"matrix_l0", "bias_l0", "matrix_l1", "bias_l1", "head_matrix", "head_bias"}
        assert verify(path, runtimes=["onnxruntime-cpu"]).exit_code == 0

    def test_replacing_one_by_a_small_one_removes_its_data_file(self, artifact, monkeypatch):
        monkeypatch.undo()
        export("rnn:2,3", artifact)
        assert DATA not in content(artifact)

    def test_torchs_exporter_is_said_to_be_no_way(self, tmp_path, no_room):
        with pytest.raises(UsageError, match=r"form 'module' cannot be drawn with .* Choose --form scan"):
            export("rnn:3,4", tmp_path / "out", form="module")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("bit", [0, 77, -1])
    def test_a_flipped_bit_is_damage(self, artifact, bit):
        data = bytearray((artifact / DATA).read_bytes())
        data[bit] ^= 4
        (artifact / DATA).write_bytes(data)
        with pytest.raises(ArtifactError, match=rf"{DATA} in .* was changed after it was exported"):
            Artifact.load(artifact)

    @pytest.mark.parametrize("damage", ["missing", "shorter", "a link"])
    def test_a_data_file_that_is_not_whole_is_damage(self, artifact, damage):
        data = artifact / DATA
        moved = Path(shutil.move(data, artifact.parent / "moved"))
        if damage == "shorter":
            data.write_bytes(moved.read_bytes()[:-1])
        if damage == "a link":
            data.symlink_to(moved)
        with pytest.raises(ArtifactError, match=DATA):
            Artifact.load(artifact)


class TestVerification:
    @pytest.mark.parametrize("form", ["scan", "rnn"])
    def test_it_passes_as_one_file_does_with_the_same_numbers(self, tmp_path, monkeypatch, form):
        source = "rnn:3,4,layers=2" if form == "rnn" else "rnn:3,4,layers=2,bidirectional"
        reports = []
        for limit in (2**30, 0):
            monkeypatch.setattr(forms, "EXTERNAL_ABOVE", limit)
            path = export(source, tmp_path / str(limit), form=form).path
            reports.append(verify(path, runtimes=["onnxruntime-cpu"]))
        assert [report.exit_code for report in reports] == [0, 0]
        rows = [[row.to_dict() for row in report.results] for report in reports]
        assert rows[0] == rows[1]

    def test_the_reference_evaluator_reads_it(self, tmp_path, no_room):
        path = export("rnn:3,4,layers=2", tmp_path / "out").path
        assert verify(path, runtimes=["onnx-reference"]).exit_code == 0

    def test_other_weights_behind_a_fitting_manifest_are_a_mismatch(self, artifact):
        self.reseal(artifact, self.changed_weight)
        finding = verify(artifact, runtimes=["torch"]).results[0]
        assert (finding.runtime, finding.status) == ("file", Status.MISMATCH)
        assert finding.detail.startswith("matrix_l0 differs from the checkpoint in 1 values, first at [0, 0]")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("offset", "9999999"),
            ("offset", "-4"),
            ("offset", "x"),
            ("length", "4"),
            ("location", "weights.safetensors"),
        ],
    )
    def test_weights_that_are_elsewhere_are_damage(self, artifact, key, value):
        def change(path: Path) -> None:
            model = onnx.load(path / "model.onnx", load_external_data=False)
            for entry in declared(model)[0].external_data:
                if entry.key == key:
                    entry.value = value
            (path / "model.onnx").write_bytes(model.SerializeToString())

        self.reseal(artifact, change)
        with pytest.raises(ArtifactError, match=r"matrix_l0|valid ONNX model"):
            verify(artifact, runtimes=["torch"])

    def test_a_shape_that_no_memory_holds_is_damage(self, artifact):
        model = onnx.load(artifact / "model.onnx", load_external_data=False)
        tensor = declared(model)[0]
        tensor.dims[0] = 2**40
        with pytest.raises(ArtifactError, match="matrix_l0 is not where the model says"):
            read_in_place(tensor, artifact)

    def changed_weight(self, path: Path) -> None:
        data = bytearray((path / DATA).read_bytes())
        data[0] ^= 1
        (path / DATA).write_bytes(data)

    def reseal(self, path: Path, change) -> None:
        change(path)
        manifest = json.loads((path / "manifest.json").read_text())
        del manifest["sha256"]
        for name in ("model.onnx", DATA):
            manifest["files"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
        (path / "manifest.json").write_bytes(sealed(manifest))

    def test_the_instrumented_copy_borrows_the_weights_and_gives_them_back(self, artifact, tmp_path):
        (tmp_path / "scratch").mkdir()
        staged = subject_of_artifact(artifact, tmp_path / "scratch")
        assert [path.name for path in staged.instrumented.iterdir()] == ["model.onnx"]
        with staged.showing_layers() as folder:
            assert folder == staged.instrumented
            onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
            assert not (staged.folder / DATA).exists()
        with pytest.raises(ZeroDivisionError), staged.showing_layers():
            _ = 1 / 0
        onnxruntime.InferenceSession(staged.folder / "model.onnx", providers=["CPUExecutionProvider"])
        assert [path.name for path in staged.instrumented.iterdir()] == ["model.onnx"]

    @pytest.mark.parametrize("beside", [False, True], ids=["in one file", "beside"])
    def test_somebody_elses_large_file_is_staged_in_two(self, tmp_path, monkeypatch, beside):
        drawn = Weights.random(RNNSpec(100, 200), 0)
        options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0} if beside else {}
        onnx.save_model(draw("scan", drawn, 18), tmp_path / "theirs.onnx", **options)
        for module in (_external, inspection):
            monkeypatch.setattr(module, "EXTERNAL_ABOVE", 0)
        (tmp_path / "scratch").mkdir()
        staged = subject_of_model(tmp_path / "theirs.onnx", drawn, tmp_path / "scratch")
        assert (staged.folder / DATA).stat().st_size == 4 * 200 * 300
        assert [tensor.name for tensor in declared(staged.model)] == ["matrix_l0"]
        assert [finding.status for finding in staged.findings] == [Status.PASS]
        onnxruntime.InferenceSession(staged.folder / "model.onnx", providers=["CPUExecutionProvider"])


class TestParts:
    def test_a_model_in_place_shows_its_weights_where_it_lies_and_nowhere_else(self, artifact):
        found = Artifact.load(artifact)
        model = load_model(found.model_path, in_place=True)
        expected = constants_of("scan", found.weights())
        assert weight_tensors(model) == {}
        shown = weight_tensors(model, artifact)
        assert all(shown[name].tobytes() == np.asarray(array).tobytes() for name, array in expected.items())
        assert recognise_weights(model, found.weights(), artifact) == "cell"  # the first that draws the same matrices

    def test_large_weights_that_nobody_can_change_are_kept_and_others_copied(self, monkeypatch):
        monkeypatch.setattr(weights, "BLOCK", 100)
        spec = RNNSpec(4, 8, bias=False)
        matrix = np.arange(96, dtype=np.float32).reshape(8, 12).copy()
        for writeable, kept in ((True, False), (False, True)):
            matrix.flags.writeable = writeable
            made = Weights.from_single_matrix(spec, {"matrix_l0": matrix})
            assert all(np.shares_memory(array, matrix) is kept for array in made.values())
            np.testing.assert_array_equal(made["weight_hh_l0"], matrix[:, 4:])
        turned = Weights(spec, {"weight_ih_l0": matrix[:, :4], "weight_hh_l0": matrix[:, 4:].T})
        assert np.shares_memory(turned["weight_ih_l0"], matrix)
        assert not np.shares_memory(turned["weight_hh_l0"], matrix)
        monkeypatch.undo()
        assert not np.shares_memory(Weights.from_single_matrix(spec, {"matrix_l0": matrix})["weight_ih_l0"], matrix)

    @pytest.mark.parametrize("rows", [1, 3, 100])
    def test_the_oracle_widens_a_large_matrix_block_by_block(self, monkeypatch, rows):
        drawn = Weights.random(RNNSpec(5, 7, 2, bidirectional=True), 0)
        x, h_0 = np.ones((4, 3, 5), np.float32), np.ones((4, 3, 7), np.float32)
        expected = run_oracle(drawn, x, h_0)
        monkeypatch.setattr(oracle, "WIDE_ELEMENTS", 0)
        monkeypatch.setattr(oracle, "BLOCK_ELEMENTS", 7 * rows)
        for found, whole in zip(run_oracle(drawn, x, h_0), expected, strict=True):
            np.testing.assert_allclose(found, whole, rtol=0, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["scan", "rnn"])
def test_more_than_2_gib_are_exported_in_their_own_size_and_256_mib(tmp_path, form):
    """Above what the export of a tiny network takes."""
    H = 16_400  # two square matrices of 1.002 GiB each
    rows = np.random.default_rng(0).uniform(-1, 1, (H // 100, H)).astype(np.float32) / np.float32(H)
    matrix, bias = Joined([rows] * 100, axis=0), np.ones(H, np.float32)
    arrays = {"weight_ih_l0": matrix, "weight_hh_l0": matrix, "bias_ih_l0": bias, "bias_hh_l0": bias}
    try:
        write_safetensors(tmp_path / "large.safetensors", arrays, {})
        size = sum(array.nbytes for array in arrays.values())
        assert size > 2**31
        tiny = peak_of("export", "rnn:3,4", "-o", tmp_path / "tiny", "--form", form)
        large = peak_of("export", tmp_path / "large.safetensors", "-o", tmp_path / "out", "--form", form)
        assert (tiny.code, large.code) == (0, 0)
        assert large.bytes - tiny.bytes < size + 256 * MIB
        data = np.memmap(tmp_path / "out" / DATA, np.float32, "r")
        width = 2 * H if form == "scan" else H
        np.testing.assert_array_equal(data[: width * 3].reshape(3, width)[:, :H], rows[:3])
        assert (tmp_path / "out" / DATA).stat().st_size >= size - 4 * H  # scan adds its two biases
        assert load_checkpoint(tmp_path / "out" / "weights.safetensors").weights.spec == RNNSpec(H, H)
    finally:
        shutil.rmtree(tmp_path)  # pytest would keep 6 GiB of the last three runs
