"""A failure is shrunk as far as it goes, and the folder shows it without this package."""

import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rnn_export import export
from rnn_export.checkpoint import load_checkpoint
from rnn_export.environments import environment_of, interpreter_of
from rnn_export.errors import OutputError, UsageError
from rnn_export.oracle import run_oracle
from rnn_export.reproduction import reproduce
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec
from tests.runtimes.test_runtimes import why_absent


def errors_in(printed: str) -> dict[str, float]:
    """The largest difference of each array that the script printed, found and expected."""
    arrays = re.findall(
        r"^(\w+) is \w+ \(.*?\) \[(.*?)\] and not \(.*?\) \[(.*?)\]$", printed, re.MULTILINE | re.DOTALL
    )
    numbers = {name: [np.array(text.split(), float) for text in pair] for name, *pair in arrays}
    return {name: float(np.abs(found - expected).max()) for name, (found, expected) in numbers.items()}


def test_ignored_lengths_are_shrunk_to_one_unit_and_the_script_shows_them(tmp_path):
    # ONNX's reference evaluator ignores sequence lengths in the RNN operator
    export("rnn:6,9,layers=2,bidirectional,batch-first", tmp_path / "net", form="rnn", lengths=True)
    found = reproduce(tmp_path / "net", "onnx-reference", tmp_path / "bug")
    assert (found.spec, found.row.code) == (RNNSpec(1, 1, bias=False), "padding")
    script = [sys.executable, "-I", "reproduce.py"]
    done = subprocess.run(script, cwd=tmp_path / "bug", capture_output=True, text=True, check=True)
    off = errors_in(done.stdout)
    assert off["output"] > 1e-3
    text = (tmp_path / "bug" / "reproduce.py").read_text()
    assert "rnn_export" not in text
    assert "MISMATCH [padding] on RNN(1 -> 1, tanh, no bias)" in text
    reproduce(tmp_path / "net", "onnx-reference", tmp_path / "bug")  # what it made it may replace


def test_a_refusal_is_shrunk_too(tmp_path):
    export("rnn:4,5,relu", tmp_path / "net", form="rnn")
    found = reproduce(tmp_path / "net", "onnx-reference", tmp_path / "bug")
    assert (found.spec, found.row.code) == (RNNSpec(1, 1, nonlinearity="relu", bias=False), "refused")
    done = subprocess.run(
        [sys.executable, "-I", "reproduce.py"], cwd=tmp_path / "bug", capture_output=True, text=True, check=False
    )
    assert "Unknown activation function" in done.stderr


def test_a_script_for_node_shows_its_failure_and_answers_where_there_is_none(tmp_path):
    runtime = RUNTIMES.get("onnxruntime-node")
    if reason := why_absent(runtime.name):
        pytest.skip(f"{runtime.name}: {reason}")
    export("rnn:4,5,layers=2", tmp_path / "net", dtype="float16")
    found = reproduce(tmp_path / "net", runtime.name, tmp_path / "bug")
    assert (found.spec, found.row.code) == (RNNSpec(1, 1, bias=False), "refused")
    place = tmp_path / "bug"
    assert "npm install onnxruntime-node@" in (place / "reproduce.py").read_text()
    script = [str(interpreter_of(runtime)), "-I", "reproduce.py"]
    packages = {**os.environ, "NODE_PATH": str(environment_of(runtime) / "node_modules")}
    done = subprocess.run(script, cwd=place, env=packages, capture_output=True, text=True, check=False)
    assert "not enough space" in done.stderr
    (place / "model.onnx").write_bytes(export("rnn:4,5", tmp_path / "right").model_path.read_bytes())
    x, h_0 = np.ones((3, 2, 4), np.float32), np.zeros((1, 2, 5), np.float32)
    truth = run_oracle(load_checkpoint("rnn:4,5").weights, x, h_0)
    np.savez(place / "inputs.npz", input=x, h_0=h_0)
    np.savez(place / "expected.npz", output=truth.output[:], h_n=truth.h_n)
    done = subprocess.run(script, cwd=place, env=packages, capture_output=True, text=True, check=True)
    off = errors_in(done.stdout)
    assert list(off) == ["output", "h_n"]
    assert max(off.values()) < 1e-6


def test_a_documented_difference_is_shrunk_by_its_code_to_its_first_step(tmp_path):
    # ONNX Runtime's RNN operator with relu swallows a NaN
    export("rnn:4,5,relu,layers=2", tmp_path / "net", form="rnn")
    found = reproduce(tmp_path / "net", "onnxruntime-cpu", tmp_path / "bug", code="nan-swallowed")
    assert (found.spec, found.row.code) == (RNNSpec(1, 1, nonlinearity="relu", bias=False), "nan-swallowed")
    with np.load(tmp_path / "bug" / "inputs.npz") as inputs, np.load(tmp_path / "bug" / "expected.npz") as expected:
        assert inputs["input"].shape == (2, 1, 1)  # the case has its NaN in the second step
        assert np.isnan(inputs["input"][1]).all()
        assert np.isnan(expected["h_n"]).all()
    model = onnx.load(tmp_path / "bug" / "model.onnx")
    weights = {tensor.name: numpy_helper.to_array(tensor).ravel().tolist() for tensor in model.graph.initializer}
    assert weights["W_0"] == weights["R_0"] == [0.5]
    with pytest.raises(UsageError, match="does not fail padding on onnxruntime-cpu"):
        reproduce(tmp_path / "net", "onnxruntime-cpu", tmp_path / "other", code="padding")


def test_what_only_two_directions_show_keeps_them(tmp_path):
    export("rnn:4,5,bidirectional", tmp_path / "net", form="scan")
    found = reproduce(tmp_path / "net", "onnx-reference", tmp_path / "bug")
    assert (found.spec, found.row.code) == (RNNSpec(1, 1, bias=False, bidirectional=True), "refused")


def test_a_single_step_is_the_one_that_is_wrong(tmp_path):
    runtime = RUNTIMES.get("opencv")
    if reason := why_absent(runtime.name):
        pytest.skip(f"{runtime.name}: {reason}")
    export("rnn:4,8,relu", tmp_path / "net", form="cell")
    found = reproduce(tmp_path / "net", runtime.name, tmp_path / "bug", code="nan-misplaced")
    assert found.row.step is not None
    script = [str(interpreter_of(runtime)), "-I", "reproduce.py"]
    done = subprocess.run(script, cwd=tmp_path / "bug", capture_output=True, text=True, check=True)
    said = re.fullmatch(r"h_n is float32 \(1, 1, 1\) \[(.*)\] and not \(1, 1, 1\) \[(.*)\]", done.stdout.strip())
    assert said is not None, done.stdout
    assert said[1].split() != said[2].split()


def test_what_does_not_fail_and_what_has_no_script_is_said(tmp_path):
    export("rnn:3,4", tmp_path / "net")
    with pytest.raises(UsageError, match="does not fail on onnxruntime-cpu"):
        reproduce(tmp_path / "net", "onnxruntime-cpu", tmp_path / "bug")
    with pytest.raises(UsageError, match="no script for torch"):
        reproduce(tmp_path / "net", "torch", tmp_path / "bug")
    assert not (tmp_path / "bug").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    export("rnn:3,4,relu", tmp_path / "net", form="rnn")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError):
        reproduce(tmp_path / "net", "onnx-reference", tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
