"""A head goes into the file, and the verdict judges it too."""

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file
from torch import nn

from rnn_export import export, verify
from rnn_export.checkpoint import load_checkpoint
from rnn_export.errors import SourceError
from rnn_export.execution import execute
from rnn_export.judgement import _Found, _judge_head
from rnn_export.oracle import head_input, run_oracle, valid_steps
from rnn_export.precision import judge_as_asked
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head

MODELS = Path(__file__).parent.parent / "models"
ROWS = MODELS / "digits-rows.safetensors"


@pytest.mark.parametrize("form", ["scan", "loop", "rnn", "module"])
def test_the_digits_are_told_from_the_files_own_prediction(form, tmp_path: Path):
    artifact = export(ROWS, tmp_path / "out", form=form, head="head")
    with np.load(MODELS / "digits-test.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    x = (images.reshape(len(images), 8, 8).swapaxes(0, 1) / 16).astype(np.float32)
    inputs = {"input": np.ascontiguousarray(x), "h_0": np.zeros((1, len(images), 64), np.float32)}
    prediction = execute(RUNTIMES.get("onnxruntime-cpu"), artifact.path, inputs)["prediction"]
    assert prediction.shape == (8, len(images), 10)
    assert (prediction[-1].argmax(axis=1) == labels).mean() > 0.95


def test_a_head_passes_and_a_wrong_one_is_found_by_the_residual_and_by_the_read_back(tmp_path: Path):
    artifact = export(ROWS, tmp_path / "out", head="head")
    assert verify(artifact.path, runtimes=["onnxruntime-cpu"]).exit_code == 0
    model = onnx.load(artifact.model_path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head_bias")
    changed = numpy_helper.to_array(bias).copy()
    changed[3] += 1e-4
    bias.CopyFrom(numpy_helper.from_array(changed, "head_bias"))
    onnx.save(model, tmp_path / "changed.onnx")
    against = load_checkpoint(ROWS, head="head")
    report = verify(tmp_path / "changed.onnx", against=against, runtimes=["onnxruntime-cpu"])
    assert report.exit_code == 1
    wrong = [row for row in report.results if row.code == "step-residual"]
    assert wrong
    assert all("the head" in row.detail for row in wrong)


@pytest.mark.parametrize("form", ["scan", "loop", "rnn", "module"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_a_head_that_reads_what_the_cell_reads(form, batch_first, lengths, tmp_path: Path):
    """The classic i2o, on cat(x, h) as i2h is, against torch's own loop."""
    x, h = torch.randn(6, 3, 4), torch.zeros(3, 5)
    i2h, i2o = nn.Linear(9, 5), nn.Linear(9, 2)
    torch.save({"i2h": i2h, "i2o": i2o}, tmp_path / "cell.pt")
    options = {"head": "i2o", "batch_first": batch_first, "nonlinearity": "tanh"}
    artifact = export(tmp_path / "cell.pt", tmp_path / "out", form=form, lengths=lengths, **options)
    assert verify(artifact.path, runtimes=["onnxruntime-cpu"]).exit_code == 0
    expected = []
    for x_t in x:
        both = torch.cat([x_t, h], dim=1)
        expected.append(i2o(both))
        h = i2h(both).tanh()
    if lengths:  # what stands in the padding comes through as nothing at all
        x[4:, 1], ends = torch.nan, np.array([6, 4, 6])
        for t in (4, 5):
            expected[t] = torch.stack([i2o.bias if b == 1 else row for b, row in enumerate(expected[t])])
    feed = x.transpose(0, 1) if batch_first else x
    inputs = {"input": feed.contiguous().numpy(), "h_0": np.zeros((1, 3, 5), np.float32)}
    inputs |= {"lengths": ends} if lengths else {}
    found = execute(RUNTIMES.get("onnxruntime-cpu"), artifact.path, inputs)["prediction"]
    found = found.swapaxes(0, 1) if batch_first else found
    np.testing.assert_allclose(found, torch.stack(expected).detach().numpy(), atol=1e-6)


def test_a_head_that_reads_the_new_state_where_the_old_one_is_meant_is_found(tmp_path: Path):
    torch.save({"i2h": nn.Linear(9, 5), "i2o": nn.Linear(9, 2)}, tmp_path / "cell.pt")
    artifact = export(tmp_path / "cell.pt", tmp_path / "out", head="i2o")
    model = onnx.load(artifact.model_path)
    shift = next(node for node in model.graph.node if node.output[0] == "head_before")
    del shift.input[:]
    shift.op_type = "Identity"
    shift.input.append("output")
    onnx.save(model, tmp_path / "changed.onnx")
    against = load_checkpoint(tmp_path / "cell.pt", head="i2o")
    report = verify(tmp_path / "changed.onnx", against=against, runtimes=["onnxruntime-cpu"])
    assert any(row.code == "step-residual" and "the head" in row.detail for row in report.results)


@pytest.mark.parametrize("lengths", [None, np.array([7, 1, 4])], ids=["whole", "lengths"])
def test_what_a_head_reads_is_the_same_in_any_stretches(lengths):
    rng = np.random.default_rng(0)
    x, h_0, output = (rng.standard_normal(shape).astype(np.float32) for shape in ((7, 3, 4), (1, 3, 5), (7, 3, 5)))
    x[4:, 2] = np.nan
    head = Head(np.zeros((2, 9), np.float32), np.zeros(2, np.float32))
    read = head_input(head, RNNSpec(4, 5), x, h_0, output, lengths)
    expected = np.concatenate([x, np.concatenate([h_0, output[:-1]])], axis=2)
    expected = np.where(valid_steps(7, 3, lengths)[..., None], expected, np.float32(0))
    assert read.shape == expected.shape
    for steps in (slice(None), slice(0, 1), slice(0, 3), slice(3, 7), slice(6, 9), slice(2, 2)):
        np.testing.assert_array_equal(read[steps], expected[steps])
    assert read[:].dtype == np.float32
    assert head_input(head, RNNSpec(4, 5), x[:0], h_0, output[:0])[:].shape == (0, 3, 9)


def test_a_head_over_a_long_sequence_is_judged_in_little_memory():
    """What it reads takes 52 MB, and is never there as a whole."""
    T, width = 100_000, 64
    rng = np.random.default_rng(0)
    head = Head(rng.standard_normal((1, 2 * width), np.float32) / 8, np.zeros(1, np.float32))
    x, output = (rng.standard_normal((T, 1, width), np.float32) for _ in range(2))
    h_0 = np.zeros((1, 1, width), np.float32)
    read = np.concatenate([x, np.concatenate([h_0, output[:-1]])], axis=2)
    prediction = read @ head.weight.T
    expected = judge_as_asked("float32", head.as_cell(), read, np.zeros((1, 0), np.float32), prediction)[0]
    size = read.nbytes
    del read
    found = _Found()
    tracemalloc.start()
    try:
        _judge_head(found, head, head_input(head, RNNSpec(width, width), x, h_0, output), prediction, "float32", None)
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()
    assert (found.worst, found.judged, found.code) == (expected.max_q, T, "")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other.weight": (4, 64)}, "There are: other"),
        ({"head.weight": (4, 63)}, "reads 63 values"),
        ({"head.weight": (4, 64), "head.bias": (5,)}, "bias has shape"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(tensors, message, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    stored = {name: array for name, array in load_file(ROWS).items() if name.startswith("rnn.")}
    save_file(stored | {name: np.ones(shape, np.float32) for name, shape in tensors.items()}, path)
    with pytest.raises(SourceError, match=message):
        load_checkpoint(path, head="head")


def test_a_linear_recurrence_passes_in_every_form(tmp_path: Path):
    for form in ("scan", "loop", "rnn", "module"):
        artifact = export("rnn:3,7,identity,layers=2,bidirectional", tmp_path / form, form=form)
        assert verify(artifact.path, runtimes=["onnxruntime-cpu", "torch"]).exit_code == 0


def test_saved_outputs_are_judged_like_a_runtime(tmp_path: Path):
    artifact = export(ROWS, tmp_path / "out")
    weights = artifact.weights()
    x = np.random.default_rng(0).standard_normal((20, 2, 8)).astype(np.float32)
    output, h_n = run_oracle(weights, x, np.zeros((1, 2, 64), np.float32))
    np.savez(tmp_path / "in.npz", input=x)
    np.savez(tmp_path / "right.npz", output=output.astype(np.float32), h_n=h_n.astype(np.float32))
    np.savez(tmp_path / "wrong.npz", output=np.maximum(output, 0).astype(np.float32))
    for name, code in (("right", 0), ("wrong", 1)):
        report = verify(
            artifact.path,
            inputs=tmp_path / "in.npz",
            expect=tmp_path / f"{name}.npz",
            runtimes=["onnxruntime-cpu"],
        )
        assert report.exit_code == code
    assert any(row.case == "in.npz T=20 B=2" and row.passed for row in report.results)
