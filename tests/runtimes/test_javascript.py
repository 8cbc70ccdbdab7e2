"""The rows that JavaScript runs: what crosses, how they die, and that nothing of them is left."""

import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from rnn_export import forms
from rnn_export.canary import FOLDER as CANARY
from rnn_export.canary import sing
from rnn_export.child import Child, Failure
from rnn_export.environments import interpreter_of
from rnn_export.execution import execute
from rnn_export.forms import _external
from rnn_export.forms._external import DATA
from rnn_export.pipeline import export
from rnn_export.result import Stage, Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.runtimes._javascript import _arrays, _message
from tests.runtimes.test_runtimes import SCRIPTED, why_absent
from tests.subjects import PATIENCE, descendants, ends_within

WEB = RUNTIMES.get("onnxruntime-web")
# The web's adapter in this Python, as far as its browser: what it does without one needs no installation.
BROWSERLESS = replace(WEB, own_environment=False, requires=("numpy",), npm=())
CANARY_INPUT = {"input": np.array([[1, 2], [3, 4]], np.float32)}
FEED = {"input": np.ones((5, 2, 3), np.float32), "h_0": np.zeros((1, 2, 4), np.float32)}


@pytest.fixture(params=SCRIPTED)
def scripted(request) -> Runtime:
    if reason := why_absent(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return RUNTIMES.get(request.param)


@pytest.fixture
def child(scripted) -> Iterator[Child]:
    with Child(scripted, interpreter_of(scripted), PATIENCE) as child:
        child.wait_until_ready()
        sing(child, scripted.reads)
        yield child


def saved(text: str, folder: Path) -> Path:
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    return folder


def processes(kind: str, pids: set[int]) -> set[int]:
    """Chromium's processes of a kind: one browser, whose command line says none, and at least one renderer."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").split() for pid in pids}
    kinds = {pid: [word[7:].decode() for word in line if word.startswith(b"--type=")] for pid, line in lines.items()}
    return {pid for pid, said in kinds.items() if (said or ["browser"])[0] == kind}


def test_a_message_has_every_byte_of_its_arrays():
    sent = {
        "x": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float32),
        "lengths": np.array([2**62, -1]),
        "none": np.zeros((0, 3), np.float16),
        "mask": np.array([True, False]),
    }
    message = _message({"session": 3}, sent)
    end = 4 + int.from_bytes(message[:4], "big")
    header = json.loads(message[4:end])
    assert header["session"] == 3
    found = dict(_arrays(header["arrays"], message[end:]))
    assert list(found) == list(sent)
    for name, array in sent.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


class TestValues:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "bool", "uint8"])
    def test_they_cross_bit_for_bit(self, scripted, dtype, tmp_path):
        if (scripted.name, dtype) == ("onnxruntime-node", "float16"):
            pytest.skip("node refuses them as test_runtimes.py shows")
        kind = {"float32": "float", "float64": "double"}.get(dtype, dtype)
        text = (
            f'<ir_version: 8, opset_import: ["" : 17]> pass ({kind}[A, B] x) => ({kind}[A, B] y) {{ y = Identity (x) }}'
        )
        x = np.random.default_rng(0).integers(0, 2, (3, 5)).astype(dtype)
        if x.dtype.kind == "f":
            x[0, :3] = np.nan, -0.0, np.finfo(dtype).smallest_subnormal
        folder = saved(text, tmp_path)
        for array in (x, x[:, :0]):
            y = execute(scripted, folder, {"x": array})["y"]
            assert (y.dtype, y.shape, y.tobytes()) == (array.dtype, array.shape, array.tobytes())

    def test_bfloat16_is_refused_in_words(self, scripted, tmp_path):
        text = '<ir_version: 10, opset_import: ["" : 22]> pass (bfloat16[N] x) => (bfloat16[N] y) { y = Identity (x) }'
        with pytest.raises(Failure, match=r"[Uu]nsupported .*16|type 16") as caught:
            execute(scripted, saved(text, tmp_path), {"x": np.ones(3, "bfloat16")})
        assert caught.value.status is Status.REFUSED
        assert caught.value.detail.startswith("JavaScriptError: ")


class TestWeightsBesideTheModel:
    @pytest.fixture
    def beside(self, tmp_path, monkeypatch) -> Path:
        for module in (forms, _external):
            monkeypatch.setattr(module, "EXTERNAL_ABOVE", 0)
        folder = export("rnn:3,4", tmp_path / "beside").path
        assert (folder / DATA).exists()
        return folder

    def test_they_are_read(self, scripted, beside, tmp_path, monkeypatch):
        monkeypatch.undo()
        whole = export("rnn:3,4", tmp_path / "whole").path
        assert not (whole / DATA).exists()
        if scripted == WEB:
            # ONNX Runtime 1.24 to 1.30 looks for the file in a file system that a page has not got
            with pytest.raises(Failure, match="external data path could not be canonicalized") as caught:
                execute(scripted, beside, FEED)
            assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.REFUSED)
            return
        found, expected = (execute(scripted, folder, FEED)["output"] for folder in (beside, whole))
        assert found.tobytes() == expected.tobytes()

    def test_without_them_the_model_is_refused_and_others_go_on(self, child, beside):
        (beside / DATA).unlink()
        with pytest.raises(Failure) as caught:
            child.prepare(beside)
        assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.REFUSED)
        assert "external data" in caught.value.detail.lower() or DATA in caught.value.detail
        assert child.run(0, CANARY_INPUT)["output"].tolist() == [[7, 10], [15, 22]]


class TestDeath:
    def test_a_crash_of_the_runtime_is_one(self, child, tmp_path):
        """ONNX Runtime up to 1.32 ends the process for a GRU without rows."""
        weights = {"W": np.zeros((1, 12, 3), np.float32), "R": np.zeros((1, 12, 4), np.float32)}
        text = """<ir_version: 8, opset_import: ["" : 17]>
            gru (float[T, B, 3] X) => (float[T, D, B, 4] Y) { Y = GRU <hidden_size: int = 4> (X, W, R) }"""
        model = onnx.parser.parse_model(text)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
        onnx.save(model, tmp_path / "model.onnx")
        child.prepare(tmp_path)
        assert child.run(1, {"X": np.ones((5, 2, 3), np.float32)})["Y"].shape == (5, 1, 2, 4)
        with pytest.raises(Failure, match=r"SIGABRT|Aborted\(\)") as caught:
            child.run(1, {"X": np.ones((5, 0, 3), np.float32)})
        assert (caught.value.stage, caught.value.status, child.alive) == (Stage.RUN, Status.CRASHED, False)

    @pytest.mark.parametrize("kind", ["browser", "renderer"])
    def test_the_death_of_a_process_is_reported_as_that(self, scripted, kind):
        if (scripted.name, kind) == ("onnxruntime-node", "renderer"):
            pytest.skip("node is one process")
        before = descendants()
        with Child(scripted, interpreter_of(scripted), PATIENCE) as child:
            child.wait_until_ready()
            sing(child, scripted.reads)
            for pid in processes(kind, descendants() - before - {child._process.pid}):
                os.kill(pid, signal.SIGSEGV)
            with pytest.raises(Failure) as caught:
                child.run(0, CANARY_INPUT)
            assert (caught.value.stage, caught.value.status) == (Stage.RUN, Status.CRASHED)
            assert ("SIGSEGV" if kind == "browser" else "the page's process in Chromium ended") in caught.value.detail

    def test_nothing_outlives_the_worker(self, scripted):
        """Killed alone, without its group and before it can end anything itself."""
        before = descendants()
        with Child(scripted, interpreter_of(scripted), PATIENCE) as child:
            child.wait_until_ready()
            sing(child, scripted.reads)
            started = descendants() - before - {child._process.pid}
            assert started
            os.kill(child._process.pid, signal.SIGKILL)
            assert all(ends_within(pid, 10) for pid in started)

    def test_no_file_is_left(self, scripted, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with Child(scripted, interpreter_of(scripted), PATIENCE) as child:
            child.wait_until_ready()
            sing(child, scripted.reads)
            assert list(tmp_path.iterdir())
        assert list(tmp_path.iterdir()) == []


class TestWithoutChromium:
    """A program of that name that is no browser, or none at all."""

    @staticmethod
    def failure(folder: Path, script: str | None) -> Failure:
        if script is not None:
            program = folder / "chromium"
            program.write_text(f"#!{sys.executable}\n{script}")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        with Child(replace(BROWSERLESS, environ={"PATH": str(folder)}), Path(sys.executable), PATIENCE) as child:
            child.wait_until_ready()
            with pytest.raises(Failure) as caught:
                child.prepare(CANARY)
        return caught.value

    def test_it_is_absent_with_what_to_type(self, tmp_path):
        failure = self.failure(tmp_path, None)
        assert (failure.stage, failure.status) == (Stage.PREPARE, Status.ABSENT)
        assert "apt-get install chromium" in failure.detail

    def test_a_browser_that_ends_at_once_says_why(self, tmp_path):
        failure = self.failure(tmp_path, "raise SystemExit('this is a stub')")
        assert failure.status is Status.CRASHED
        assert failure.detail == "the process ended with exit code 1: this is a stub"

    def test_its_files_are_for_the_page_only(self, tmp_path):
        """Who does not know the address gets nothing, and who knows it nothing but what was named."""
        script = """
import re, sys, urllib.error, urllib.request
page = re.search("url=(.*?)\\"", urllib.request.urlopen(sys.argv[-1]).read().decode())[1]
place, origin = page.rpartition("/")[0], "/".join(page.split("/")[:3])
def status(address, body=None):
    try:
        return urllib.request.urlopen(address, body).status
    except urllib.error.HTTPError as error:
        return error.code
names = ["_sessions.mjs", "_javascript.py", "../_sessions.mjs", "model-0/model.onnx", "model-0/../model-0/model.onnx"]
print([status(f"{place}/{name}") for name in names], status(f"{origin}/_page.html"), status(f"{origin}/next", b""),
      status(page), file=sys.stderr)
sys.exit(3)
"""
        assert self.failure(tmp_path, script).detail.endswith(": [200, 404, 404, 200, 404] 404 404 200")
