"""``inspect``: text for people, JSON for programs, and one line where there is nothing to inspect."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from rnn_export import export

MODELS = Path(__file__).parent.parent.parent / "models"


def test_a_checkpoint_as_text_and_as_json(cli):
    found = cli("inspect", MODELS / "digits-rows.safetensors")
    assert (found.code, found.err) == (0, "")
    assert "recurrent   rnn   RNN(8 -> 64, tanh)   4,672 parameters, float32" in found.out
    read = json.loads(cli("inspect", MODELS / "digits-rows.safetensors", "--format", "json").out)
    assert read["recurrent"][0]["heads"] == ["head"]


def test_an_artifact_is_described_by_its_model(cli, tmp_path):
    export("rnn:3,4", tmp_path / "out")
    found = cli("inspect", tmp_path / "out")
    assert found.code == 0
    assert "axis        T   dynamic: runs at 3, 67, 131" in found.out


def test_what_is_no_file_of_ours_is_one_line_with_code_3(cli, tmp_path):
    (tmp_path / "notes.txt").write_text("no network")
    for path in (tmp_path / "notes.txt", tmp_path / "none.pt", tmp_path, tmp_path / "none.onnx"):
        found = cli("inspect", path)
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)


def test_a_name_in_the_file_cannot_write_lines_of_its_own(cli, tmp_path):
    save_file({"x\nsecurity    nothing here\x1b[31m": np.zeros(2, np.float32)}, tmp_path / "net.safetensors")
    found = cli("inspect", tmp_path / "net.safetensors")
    assert "\x1b" not in found.out
    assert [line for line in found.out.splitlines() if line.startswith("security")] == [
        "security    safetensors cannot hold code"
    ]


def test_a_name_that_is_too_long_is_one_line(cli):
    for arguments in (("inspect", "a" * 5000 + ".pt"), ("export", "a" * 5000 + ":b", "-o", "out")):
        found = cli(*arguments)
        assert found.code in (2, 3)
        assert len(found.err.splitlines()) == 1
