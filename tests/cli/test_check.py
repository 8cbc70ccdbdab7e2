"""``check``: every network of a file in real runs, with the exit code of the worst, and nothing run where asked so."""

import json
from pathlib import Path

import pytest

from rnn_export.artifact import Artifact
from rnn_export.pipeline import verify
from tests.subjects import random_weights

HEAD = 'runtimes = ["onnxruntime-cpu", "onnx-reference"]\n'
RELU = '[[network]]\nname = "relu"\nsource = "rnn:3,4,relu"\nforms = ["scan", "rnn"]\n'
TANH = '[[network]]\nname = "tanh"\nsource = "rnn:3,4"\nforms = ["rnn"]\n'
KNOWN = '[[known-failure]]\nruntime = "onnx-reference"\nform = "rnn"\ncode = "refused"\nreason = "it knows tanh only"\n'


@pytest.fixture
def check(cli, tmp_path, monkeypatch):
    """``check`` in a folder with that file."""
    monkeypatch.chdir(tmp_path)

    def call(text: str, *options: object):
        Path("rnn-export.toml").write_text(text)
        return cli("check", *options)

    return call


def test_what_is_right_ends_with_0_and_keeps_its_artifacts_where_asked(check, tmp_path):
    found = check(HEAD + TANH, "-o", "kept")
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0] == "tanh   RNN(3 -> 4, tanh)"
    assert lines[1].split()[:4] == ["form", "runtime", "version", "cases"]
    assert lines[-1] == "PASSED: 1 files"
    assert lines[-2].split() == ["tanh", "rnn", "PASS", "PASS"]
    assert found.err == "tanh in form rnn: exit code 0\n"
    assert [place.name for place in (tmp_path / "kept").iterdir()] == ["tanh-rnn"]
    assert str(Artifact.load(tmp_path / "kept" / "tanh-rnn").spec) == "RNN(3 -> 4, tanh)"


def test_a_failure_ends_with_1_and_a_known_one_with_0(check):
    found = check(HEAD + RELU)
    assert (found.code, found.out.splitlines()[-1]) == (1, "FAILED: relu in form rnn")
    assert "REFUSED onnx-reference in form rnn: " in found.out
    found = check(HEAD + RELU + KNOWN)
    assert (found.code, found.out.splitlines()[-1]) == (0, "PASSED: 2 files; known failures: 1")
    assert "KNOWN onnx-reference with code refused in form rnn: it knows tanh only (rows: 1)" in found.out
    assert found.out.splitlines()[-2].split() == ["relu", "rnn", "REFUSED", "(known)", "PASS"]


def test_a_known_failure_that_is_gone_ends_with_1_and_says_what_to_remove(check):
    found = check(HEAD + TANH + KNOWN)
    stale, last = found.out.splitlines()[-2:]
    assert found.code == 1
    place = "known-failure 1 in rnn-export.toml, line 6"
    why = "onnx-reference with code refused: it passes now (it knows tanh only): remove it, or mend it"
    assert stale == f"STALE {place}: {why}"
    assert last == f"FAILED: {place}"


def test_a_network_that_cannot_be_loaded_does_not_stop_the_others(check):
    found = check(HEAD + '[[network]]\nsource = "gone.pt"\n' + TANH)
    assert (found.code, found.out.splitlines()[-1]) == (3, "FAILED: gone in form scan")
    assert "FAILED form scan: gone.pt" in found.out
    assert found.out.splitlines()[-2].split() == ["tanh", "rnn", "PASS", "PASS"]
    assert "gone     scan  not exported" in found.out


def test_a_runtime_that_is_absent_ends_with_4_and_says_what_to_type(check, monkeypatch, tmp_path):
    monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path))
    found = check(HEAD.replace("onnx-reference", "openvino") + TANH)
    assert found.code == 4
    assert "ABSENT openvino in form rnn: not installed: rnn-export runtimes install openvino [absent]" in found.out
    plan = check(HEAD.replace("onnx-reference", "openvino") + TANH, "--dry-run")
    assert plan.code == 0
    assert "openvino is missing: rnn-export runtimes install openvino" in plan.out


def test_a_dry_run_shows_the_plan_and_makes_nothing(check, tmp_path):
    found = check(HEAD + RELU + TANH + KNOWN + '[[network]]\nsource = "gone.pt"\n', "--dry-run", "-o", "kept")
    assert (found.code, found.err) == (0, "")
    lines = [" ".join(line.split()) for line in found.out.splitlines()]
    assert lines[1] == "relu rnn:3,4,relu scan, rnn onnxruntime-cpu, onnx-reference"
    assert lines[3] == "gone gone.pt is missing scan onnxruntime-cpu, onnx-reference"
    assert lines[-1] == "4 files, 8 verifications; known failures: 1; nothing was run"
    assert [place.name for place in tmp_path.iterdir()] == ["rnn-export.toml"]


def test_programs_get_every_report(check):
    found = check(HEAD + RELU + KNOWN + '[[network]]\nsource = "gone.pt"\n', "--format", "json")
    outcome = json.loads(found.out)
    assert (found.code, outcome["exit_code"], outcome["stale"]) == (3, 3, [])
    said = [(one["network"], one["form"], one["exit_code"]) for one in outcome["checks"]]
    assert said == [("relu", "scan", 0), ("relu", "rnn", 0), ("gone", "scan", 3)]
    assert outcome["checks"][1]["report"]["exit_code"] == 1  # the report itself knows of no excuse
    assert outcome["checks"][2]["report"]["error"]["kind"] == "SourceError"


def test_options_of_a_network_reach_its_export(check, tmp_path):
    network = '[[network]]\nname = "net"\nsource = "rnn:3,4"\nforms = ["unrolled", "scan"]\nsteps = 7\n'
    options = 'dtype = "float64"\nopset = 20\nbatch-first = true\nnonlinearity = "relu"\n'
    found = check('runtimes = ["onnxruntime-cpu"]\n' + network + options, "-o", "kept")
    assert found.code == 0
    unrolled, scan = (Artifact.load(tmp_path / "kept" / f"net-{form}") for form in ("unrolled", "scan"))
    assert (scan.form, scan.opset, scan.manifest["dtype"]) == ("scan", 20, "float64")
    assert str(scan.spec) == "RNN(3 -> 4, relu, batch first)"
    assert (unrolled.form, unrolled.manifest["steps"], scan.manifest.get("steps")) == ("unrolled", 7, None)
    assert random_weights("rnn:3,4").spec.input_size == scan.spec.input_size
    assert verify(scan.path, runtimes=["onnxruntime-cpu"]).exit_code == 0


def test_a_mistake_in_the_file_is_one_line_and_ends_with_2(check, cli, tmp_path):
    found = check(HEAD + TANH + "opsett = 3\n")
    assert (found.code, found.out, len(found.err.splitlines())) == (2, "", 1)
    said = "network 1 in rnn-export.toml, line 6: the key 'opsett' is not known. Did you mean 'opset'?"
    assert said in found.err
    (tmp_path / "rnn-export.toml").unlink()
    found = cli("check")
    assert (found.code, "there is no rnn-export.toml here" in found.err) == (2, True)
    found = cli("check", "--config", "other.toml")
    assert (found.code, "other.toml cannot be read" in found.err) == (2, True)
