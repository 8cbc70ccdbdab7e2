"""``bench``: data on one stream, files in place as a whole, and wrong calls said before anything is measured."""

import json
import re
from types import SimpleNamespace

import pytest

from rnn_export.benchmark.score import read_benchmark, render_json
from rnn_export.checkpoint import save_weights
from tests.benchmark.scores import point, row, score
from tests.cli.conftest import run_cli
from tests.subjects import random_weights

QUICK = ("--length", 5, "--rounds", 2, "--seconds", 0.002, "--runtime", "onnxruntime-cpu")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run with everything that it can write, and its folder."""
    folder = tmp_path_factory.mktemp("bench")
    files = ("-o", folder / "bench.json", "--plot", folder / "bench.svg")
    return run_cli("bench", "rnn:3,4", "--form", "rnn", *QUICK, *files), folder


def test_the_table_is_on_stdout_and_nothing_else(measured):
    outcome, _ = measured
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "RNN(3 -> 4, tanh)   T=5 B=1   1 thread"
    assert [line.split()[0] for line in lines[2:4]] == ["torch", "rnn"]
    assert re.fullmatch(r"fastest: \S.*: [\d.,]+ times as fast as torch", lines[-1])
    assert outcome.err == "note: random weights, seed 0\n"


def test_the_files_hold_what_was_measured(measured):
    _, folder = measured
    assert sorted(file.name for file in folder.iterdir()) == ["bench.json", "bench.svg"]
    (found,) = read_benchmark(folder / "bench.json").points
    assert [one.label for one in found.rows] == ["torch", "rnn on onnxruntime-cpu"]
    assert "<svg" in (folder / "bench.svg").read_text()


def test_json_is_for_programs(cli):
    outcome = cli("bench", "rnn:3,4", "--runtime", "torch", *QUICK[:-2], "--batch", 2, "--format", "json")
    assert outcome.code == 0
    data = json.loads(outcome.out)
    assert (data["schema"], data["points"][0]["batch"]) == (1, 2)


def test_what_became_slower_is_an_error_that_names_it(cli, tmp_path):
    baseline = score(point(row("rnn", 1e6)))
    renamed = json.loads(render_json(baseline))
    renamed["points"][0] |= {"network": "RNN(3 -> 4, tanh)", "length": 5}
    (tmp_path / "before.json").write_text(json.dumps(renamed))
    options = ("--baseline", tmp_path / "before.json", "--format", "markdown", "-o", tmp_path / "page.md")
    outcome = cli("bench", "rnn:3,4", "--form", "rnn", *QUICK, *options)
    assert outcome.code == 1
    assert "slower: RNN(3 -> 4, tanh) T=5 B=1: rnn on onnxruntime-cpu is" in outcome.err
    assert "1 rows compared" in outcome.err
    assert "note: the baseline is of another processor" in outcome.err
    assert outcome.out.startswith("### RNN")
    assert (tmp_path / "page.md").read_text() == outcome.out


def test_what_is_absent_although_it_is_named_ends_with_4(cli):
    named = ("--runtime", "onnxruntime@0.0.1", "--form", "scan")
    outcome = cli("bench", "rnn:3,4", *QUICK[:-2], *named)
    assert outcome.code == 4
    assert (
        "ABSENT scan on onnxruntime@0.0.1: not installed: rnn-export runtimes install onnxruntime@0.0.1" in outcome.out
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--form", "scam"), 2, "unknown form 'scam'. Did you mean 'scan'?"),
        (("--runtime", "torhc"), 2, "unknown runtime 'torhc'. Did you mean 'torch'?"),
        (("--batch", "0"), 2, "0 is not in the range 1<=x<=10000000"),
        (("--length", "1" + 20 * "0"), 2, "is not in the range"),
        (("--seconds", "nan"), 2, "nan is no finite number"),
        (("--timeout", "inf"), 2, "inf"),
        (("--tolerance", "nan"), 2, "nan is no finite number"),
        (("--baseline", "a.json", "-o", "./a.json"), 2, "would replace the --baseline"),
        (("--threads", "4096"), 2, "4096 threads on"),
        (("--seconds", "0"), 2, "0.0 is not in the range 0<x<=86400"),
        (("-o", "bench.txt"), 2, "bench.txt has the suffix of no benchmark. Choose one of .json, .md"),
        (("-o", "."), 2, "has the suffix of no benchmark"),
        (("--plot", "bench.pdf"), 2, "bench.pdf is no name of a plot"),
        (("--baseline", "nowhere.json"), 3, "nowhere.json cannot be read: No such file"),
        (("--head", "out"), 3, "has no part 'out'"),
    ],
)
def test_a_wrong_call_is_said_and_writes_nothing(cli, tmp_path, monkeypatch, options, code, message):
    monkeypatch.chdir(tmp_path)
    outcome = cli("bench", "rnn:3,4", *options)
    assert outcome.code == code
    assert message in outcome.err
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_of_other_threads_is_refused_before_anything_is_measured(cli, tmp_path):
    (tmp_path / "before.json").write_text(render_json(score(point(), threads=2)))
    outcome = cli("bench", "rnn:3,4", "--baseline", tmp_path / "before.json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the baseline was measured with 2 threads, this with 1" in outcome.err


def test_a_checkpoint_has_its_own_width(cli, tmp_path):
    save_weights(tmp_path / "model.safetensors", random_weights("rnn:3,4"))
    outcome = cli("bench", tmp_path / "model.safetensors", "--hidden", 8)
    assert outcome.code == 2
    assert "--hidden changes a spec such as rnn:64,64" in outcome.err


class TestCalibrate:
    @pytest.fixture
    def asked(self, monkeypatch, tmp_path) -> list:
        """What the library is asked for, which is not measured here."""
        asked = []

        def calibrate(runtime, threads, progress=None):
            asked.append((runtime, threads))
            return SimpleNamespace(write=lambda: tmp_path / f"{runtime}.json")

        monkeypatch.setattr("rnn_export.calibration.calibrate", calibrate)
        return asked

    def test_it_measures_each_runtime_and_says_where_it_is_kept(self, cli, asked, tmp_path):
        outcome = cli("bench", "--calibrate")
        assert (outcome.code, outcome.out) == (0, f"onnxruntime-cpu: {tmp_path / 'onnxruntime-cpu.json'}\n")
        assert cli("bench", "--calibrate", "--runtime", "tract", "--runtime", "opencv").code == 0
        assert asked == [(name, (1,)) for name in ("onnxruntime-cpu", "tract", "opencv")]

    def test_one_thread_is_measured_beside_those_that_are_named(self, cli, asked, monkeypatch):
        monkeypatch.setattr("rnn_export.benchmark.grid.available_processors", lambda: 4)
        assert cli("bench", "--calibrate", "--threads", 2).code == 0
        assert asked == [("onnxruntime-cpu", (1, 2))]
        assert cli("bench", "--calibrate", "--threads", 8).code == 2

    def test_what_is_for_a_source_is_not_passed_over(self, cli, asked, tmp_path):
        for option in (("-o", tmp_path / "a.json"), ("--form", "scan"), ("--batch", 4), ("--dtype", "float64")):
            outcome = cli("bench", "--calibrate", *option)
            assert (outcome.code, "is for a SOURCE, not for --calibrate" in outcome.err) == (2, True)
        assert asked == []

    def test_a_cache_that_cannot_be_written_is_said_before_anything_is_measured(self, cli, asked, monkeypatch):
        monkeypatch.setenv("RNN_EXPORT_CACHE", "/proc/nowhere")
        assert cli("bench", "--calibrate").code == 2
        assert asked == []

    def test_it_takes_no_source_and_a_benchmark_needs_one(self, cli, asked):
        for arguments, message in ((("rnn:3,4", "--calibrate"), "leave SOURCE out"), ((), "name a SOURCE")):
            outcome = cli("bench", *arguments)
            assert outcome.code == 2
            assert message in outcome.err
        assert asked == []


def test_a_source_that_is_none_is_said(cli, tmp_path):
    outcome = cli("bench", tmp_path / "nowhere.pt")
    assert outcome.code == 3
    assert "nowhere.pt" in outcome.err
