"""What is said of a runtime on this machine: here or not, working or not, and what to type next."""

from dataclasses import replace

import pytest

from rnn_export.environments import environment_of
from rnn_export.inventory import Entry, examine, lacking_device, take_inventory
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES, Absent
from tests.subjects import fake

ONNX_RUNTIME = RUNTIMES.get("onnxruntime-cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))


def said(entry: Entry) -> tuple[bool, str, bool]:
    return entry.installed, entry.state, entry.whole


def test_what_works_says_its_version_and_how_to_run_it():
    entry = examine(ONNX_RUNTIME)
    assert said(entry) == (True, "works", True)
    assert entry.version
    assert entry.next == "rnn-export verify DIR --runtime onnxruntime-cpu"


def test_without_the_canary_no_process_is_started(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    entry = examine(ONNX_RUNTIME, sing=False)
    assert (*said(entry), entry.canary) == (True, "installed", True, None)
    assert [entry.runtime.name for entry in take_inventory(sing=False)] == RUNTIMES.names()


def test_what_is_missing_says_what_installs_it():
    entry = examine(RUNTIMES.get("openvino"))
    assert said(entry) == (False, "missing", False)
    assert (entry.version, entry.next) == ("", "rnn-export runtimes install openvino")


def test_what_lacks_its_device_is_whole_and_no_command_helps():
    entry = examine(fake("lacks", LACKS="a device"))
    assert said(entry) == (True, "no device", True)
    assert "this machine has no abacus" in entry.detail
    assert entry.next == ""


@pytest.mark.parametrize(
    ("runtime", "state"),
    [
        (fake("broken", BROKEN="a little wrong"), "BROKEN"),
        (fake("deaths", DEATH="SIGSEGV", STAGE="FIND"), "CRASHED"),
    ],
    ids=["wrong", "crash at import"],
)
def test_what_is_broken_says_so_and_how_to_install_it_again(runtime, state):
    entry = examine(runtime)
    assert said(entry) == (True, state, False)
    assert entry.detail
    assert entry.next == "pip install --force-reinstall onnxruntime"


def test_an_environment_whose_python_does_not_start_is_broken():
    runtime = replace(RUNTIMES.get("openvino"))
    python = environment_of(runtime) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    entry = examine(runtime)
    assert said(entry) == (True, "BROKEN", False)
    assert (entry.canary, entry.next) == (Status.BROKEN, "rnn-export runtimes install openvino")
    assert "cannot be started" in entry.detail


def test_the_whole_folder_is_asked_side_by_side_and_told_in_its_order(monkeypatch):
    some = [RUNTIMES.get("onnxruntime-cpu"), fake("lacks", LACKS="a device"), RUNTIMES.get("onnx-reference")]
    monkeypatch.setattr("rnn_export.inventory.RUNTIMES", some)
    entries = take_inventory()
    assert [entry.runtime for entry in entries] == some
    assert [entry.state for entry in entries] == ["works", "no device", "works"]


class TestDevices:
    def test_a_cpu_is_always_there(self):
        assert lacking_device(ONNX_RUNTIME) == ""

    def test_a_missing_gpu_is_said_in_the_runtimes_own_words(self, monkeypatch):
        def absent():
            raise Absent("no CUDA driver on this machine (libcuda.so.1)")

        monkeypatch.setattr("rnn_export.inventory.need_cuda_device", absent)
        for name in ("torch-cuda", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"):
            assert lacking_device(RUNTIMES.get(name)) == "no CUDA driver on this machine (libcuda.so.1)"

    def test_every_runtime_says_its_device(self):
        assert {runtime.device for runtime in RUNTIMES} == {"CPU", "CUDA"}
        assert all(("cuda" in r.name or "tensorrt" in r.name) == (r.device == "CUDA") for r in RUNTIMES)
