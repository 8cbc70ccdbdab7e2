"""``verify``: every exit code in a real run, data on one stream, talk on the other, and JSON for programs."""

import hashlib
import io
import json
import math
import re
import sys

import numpy as np
import onnx
import pytest

from rnn_export.checkpoint import save_weights
from rnn_export.forms import draw
from rnn_export.pipeline import export
from rnn_export.report import Report
from tests.cli.conftest import run_cli
from tests.subjects import random_weights

KEYS = ["runtime", "version", "case", "stage", "status", "code", "residual", "precision", "max_abs", "ratio", "detail"]
KEYS += ["step", "row", "unit", "layer", "direction"]
CPU = ("--runtime", "onnxruntime-cpu")


@pytest.fixture(scope="module")
def passing(artifact):
    return run_cli("verify", artifact, *CPU)


@pytest.fixture(scope="module")
def as_json(artifact):
    """With a runtime that is absent on every machine of this project's tests, and one that is there."""
    return run_cli("verify", artifact, *CPU, "--runtime", "onnxruntime-cuda", "--format", "json")


class TestHuman:
    def test_a_pass_ends_with_0_and_its_last_line_says_so(self, passing):
        assert passing.code == 0
        assert passing.out.splitlines()[0] == "out   RNN(3 -> 4, tanh)   form scan"
        assert passing.out.splitlines()[-1].startswith("PASSED on onnxruntime-cpu (")

    def test_nothing_but_data_is_on_stdout_and_no_bar_where_nobody_looks(self, passing):
        assert passing.err == ""
        assert "\x1b" not in passing.out
        assert "━" not in passing.out

    def test_lines_are_not_cut_in_a_pipe(self, passing):
        table = [line for line in passing.out.splitlines() if line.startswith("onnxruntime-cpu ")]
        assert table[0].split()[-1] == "PASS"

    def test_on_a_terminal_there_is_a_bar(self, monkeypatch):
        from rnn_export.cli._options import progress

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress() as tell:
            assert tell is not None
            for done in (1, 2):
                tell("some-runtime", done, 2)
        assert "some-runtime" in terminal.getvalue()

    def test_in_a_pipe_there_is_none(self, monkeypatch):
        from rnn_export.cli._options import progress

        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        with progress() as tell:
            assert tell is None
        assert stream.getvalue() == ""


class TestJson:
    @pytest.fixture
    def found(self, as_json) -> dict:
        return json.loads(as_json.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    def test_it_is_schema_2_with_these_rows_and_can_be_read_back(self, found):
        assert (found["schema"], found["artifact"], found["form"]) == (2, "out", "scan")
        assert all(list(result) == KEYS for result in found["results"])
        assert Report.from_dict(found).to_dict() == found

    def test_it_says_what_was_verified_where_and_when(self, found, artifact):
        assert found["digest"] == hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()
        assert found["environment"]["threads"] == 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["created"])

    def test_onnx_runtime_says_where_every_node_ran(self, found):
        records = {record["name"]: record for record in found["runtimes"]}
        placement = records["onnxruntime-cpu"]["placement"]
        assert (placement["asked"], placement["tf32"]) == ("CPUExecutionProvider", None)
        assert placement["providers"] == list(placement["nodes"]) == ["CPUExecutionProvider"]
        assert "Scan" in [node.split()[0] for node in placement["nodes"]["CPUExecutionProvider"]]
        assert records["onnxruntime-cuda"]["placement"] is None  # absent

    def test_the_longest_case_is_there_step_by_step_and_agrees_with_its_row(self, found):
        (series,) = [record["series"] for record in found["runtimes"] if record["series"]]
        assert (series["case"], series["length"], series["stride"], series["threshold"]) == ("T=400 B=1", 400, 1, 4.0)
        assert len(series["residual"]) == len(series["error"]) == 400
        (row,) = [row for row in found["results"] if row["case"] == "T=400 B=1"]
        assert max(series["residual"]) == pytest.approx(row["residual"], rel=1e-5)
        assert max(series["error"]) == pytest.approx(row["max_abs"], rel=1e-5)

    def test_its_summary_and_its_exit_code_are_the_rows_and_the_process(self, found, as_json):
        assert found["exit_code"] == as_json.code == 5  # a named runtime is absent: it was not checked
        assert sum(found["summary"].values()) == len(found["results"])
        statuses = [result["status"] for result in found["results"]]
        assert found["summary"]["passed"] == statuses.count("PASS") > 30
        assert found["summary"]["absent"] == statuses.count("ABSENT")
        assert found["summary"]["failed"] == 0

    def test_every_number_is_finite(self, found):
        for result in found["results"]:
            for name in ("residual", "max_abs", "ratio"):
                assert result[name] is None or math.isfinite(result[name])

    def test_every_required_runtime_has_its_rows(self, found):
        names = {result["runtime"] for result in found["results"]}
        assert names == {"file", "onnxruntime-cpu", "onnxruntime-cuda"}

    def test_talk_is_not_among_the_data(self, as_json):
        assert as_json.err == ""

    def test_a_file_of_somebody_else_has_no_form(self, cli, tmp_path):
        weights = random_weights("rnn:3,4")
        onnx.save(draw("rnn", weights, 18), tmp_path / "model.onnx")
        save_weights(tmp_path / "net.safetensors", weights)
        line = ("--against", tmp_path / "net.safetensors", "--runtime", "onnx-reference", "--format", "json")
        found = json.loads(cli("verify", tmp_path / "model.onnx", *line).out)
        assert (found["artifact"], found["form"]) == ("model.onnx", None)


class TestExitCodes:
    """0 is shown above."""

    def test_1_another_network(self, tmp_path):
        onnx.save(draw("rnn", random_weights("rnn:3,4"), 18), tmp_path / "model.onnx")
        line = ("--against", "rnn:3,4,seed=1", *CPU)
        found = run_cli("verify", tmp_path / "model.onnx", *line)
        assert found.code == 1
        assert "MISMATCH onnxruntime-cpu at " in found.out
        assert "[step-residual]" in found.out
        assert found.out.splitlines()[-1].startswith("FAILED: onnxruntime-cpu MISMATCH")
        assert found.err == "note: random weights, seed 1\n"

    def test_1_a_documented_difference_where_it_is_asked_for(self, cli, artifact):
        assert cli("verify", artifact, "--runtime", "torch", "--strict").code == 1

    def test_2_a_file_without_what_it_should_compute(self, cli, artifact):
        found = cli("verify", artifact / "model.onnx")
        assert (found.code, found.out) == (2, "")
        assert "is a file, not an artifact. Say what it should compute: --against SOURCE" in found.err

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda path: (path / "model.onnx").write_bytes(b"x"), "model.onnx in "),
            (lambda path: (path / "manifest.json").unlink(), "it has no manifest.json"),
            (lambda path: (path / "manifest.json").write_text("{}"), "the manifest of "),
            (lambda path: (path / "extra").touch(), "holds extra, which its manifest does not list"),
        ],
    )
    def test_3_a_damaged_artifact(self, cli, tmp_path, damage, words):
        damage(export("rnn:3,4", tmp_path / "out").path)
        found = cli("verify", tmp_path / "out")
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)
        assert words in found.err

    def test_3_nothing_there(self, cli, tmp_path):
        found = cli("verify", tmp_path / "nothing")
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)
        assert "does not exist. Make it with rnn-export export SOURCE -o DIR" in found.err

    def test_3_no_onnx_file(self, cli, tmp_path):
        (tmp_path / "model.onnx").write_bytes(b"no model")
        found = cli("verify", tmp_path / "model.onnx", "--against", "rnn:3,4")
        assert (found.code, found.out) == (3, "")
        assert "is not a valid ONNX model" in found.err.splitlines()[-1]

    def test_3_no_source_to_hold_it_against(self, cli, artifact):
        found = cli("verify", artifact / "model.onnx", "--against", "nowhere.pt")
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)

    def test_4_absent_although_required(self, cli, artifact, monkeypatch, tmp_path):
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path))
        found = cli("verify", artifact, "--runtime", "onnx-reference", "--require", "onnxruntime-cuda")
        assert found.code == 4
        assert "ABSENT onnxruntime-cuda: not installed: rnn-export runtimes install onnxruntime-cuda" in found.out
        assert found.out.splitlines()[-1].startswith("FAILED: onnxruntime-cuda ABSENT")

    def test_4_no_answer_in_time(self, cli, artifact):
        found = cli("verify", artifact, "--runtime", "onnx-reference", "--timeout", "0.001")
        assert found.code == 4
        assert "TIMEOUT onnx-reference: no answer within 0.001 s (--timeout) [timeout]" in found.out

    def test_5_nothing_was_checked(self, cli, artifact, monkeypatch, tmp_path):
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path))
        found = cli("verify", artifact, "--runtime", "onnxruntime-cuda")
        assert found.code == 5
        assert found.out.splitlines()[-1].startswith("NO RUNTIME WAS CHECKED")


class TestOwnData:
    @pytest.fixture
    def net(self, tmp_path):
        export("rnn:3,4", tmp_path / "out")
        return tmp_path

    def saved(self, folder, name="in.npz", **arrays):
        np.savez(folder / name, **arrays)
        return folder / name

    def test_it_is_said_that_it_ran_and_what_was_done_to_it(self, cli, net):
        data = self.saved(net, input=np.ones((6, 2, 3)))
        found = cli("verify", net / "out", *CPU, "--inputs", data)
        assert found.code == 0
        assert re.search(r"NOTE .*at in.npz T=6 B=2: your own data, converted from float64, residual 0\.\d", found.out)

    def test_what_cannot_be_judged_of_it_is_no_pass(self, cli, net):
        data = self.saved(net, input=np.full((6, 2, 3), np.nan, np.float32))
        found = cli("verify", net / "out", *CPU, "--inputs", data)
        assert found.code == 1
        assert "every step overflows or follows a NaN: not judged; your own data" in found.out

    def test_wrong_outputs_are_named_in_the_last_line(self, cli, net):
        data = self.saved(net, input=np.ones((6, 2, 3), np.float32))
        expect = self.saved(net, "expect.npz", output=np.zeros((6, 2, 4), np.float32))
        found = cli("verify", net / "out", *CPU, "--inputs", data, "--expect", expect)
        assert found.code == 1
        assert found.out.splitlines()[-1].startswith("FAILED: expect MISMATCH")

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"h0": np.zeros((1, 2, 4))}, "has an array h0, which says nothing here. Known: input, h_0"),
            ({"h_0": np.zeros((1, 2, 4), np.complex64)}, "h_0 in in.npz is complex64"),
        ],
    )
    def test_what_is_not_known_is_not_passed_over(self, cli, net, arrays, message):
        data = self.saved(net, input=np.ones((6, 2, 3), np.float32), **arrays)
        found = cli("verify", net / "out", *CPU, "--inputs", data)
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)
        assert message in found.err

    def test_one_array_is_no_archive_and_outputs_need_an_output(self, cli, net):
        np.save(net / "in.npy", np.ones((6, 2, 3), np.float32))
        found = cli("verify", net / "out", *CPU, "--inputs", net / "in.npy")
        assert (found.code, "is not an .npz file of plain arrays" in found.err) == (3, True)
        data = self.saved(net, input=np.ones((6, 2, 3), np.float32))
        expect = self.saved(net, "expect.npz", h_n=np.zeros((1, 2, 4), np.float32))
        found = cli("verify", net / "out", *CPU, "--inputs", data, "--expect", expect)
        assert (found.code, "expect.npz has no array output. It has h_n" in found.err) == (3, True)


class TestAdvice:
    def test_nobody_who_named_a_runtime_is_told_to_name_one(self, cli, tmp_path):
        export("rnn:3,4", tmp_path / "out", form="rnn", dtype="float64")
        line = cli("verify", tmp_path / "out", *CPU, "--runtime", "torch").out.splitlines()[-1]
        assert line.startswith("FAILED: onnxruntime-cpu REFUSED (")

    def test_torch_alone_proves_nothing_and_it_is_said_why(self, cli, tmp_path):
        export("rnn:3,4", tmp_path / "out")
        found = cli("verify", tmp_path / "out", "--runtime", "torch")
        assert found.code == 5
        assert "NO RUNTIME WAS CHECKED: torch runs the weights and never the file" in found.out
