"""A failure is shrunk as far as it goes, and the folder shows it without this package."""

import subprocess
import sys

import pytest

from rnn_export import export
from rnn_export.errors import OutputError, UsageError
from rnn_export.reproduction import reproduce
from rnn_export.spec import RNNSpec


def test_ignored_lengths_are_shrunk_to_one_unit_and_the_script_shows_them(tmp_path):
    # ONNX's reference evaluator ignores sequence lengths in the RNN operator
    export("rnn:6,9,layers=2,bidirectional,batch-first", tmp_path / "net", form="rnn", lengths=True)
    found = reproduce(tmp_path / "net", "onnx-reference", tmp_path / "bug")
    assert (found.spec, found.row.code) == (RNNSpec(1, 1, bias=False), "padding")
    script = [sys.executable, "-I", "reproduce.py"]
    done = subprocess.run(script, cwd=tmp_path / "bug", capture_output=True, text=True, check=True)
    off = {line.split()[0]: float(line.split()[-3]) for line in done.stdout.splitlines()}
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
