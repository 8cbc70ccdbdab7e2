"""Several processes give the rows that one gives, and a killed one costs nothing but time."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rnn_export.cells import Cell, Parcel, run_here
from rnn_export.errors import UsageError
from rnn_export.pipeline import export, verify
from rnn_export.processes import run_in_processes
from rnn_export.result import Status
from rnn_export.subject import Subject
from tests.subjects import PATIENCE, drawn_subject, is_running, only

NAMES = ("T=5 B=3", "T=6 B=1", "NaN T=5 B=3", "rows T=5 B=3")


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return only(drawn_subject("rnn:3,4,layers=2", tmp_path), *NAMES)


def cells_of(subject: Subject) -> list[Cell]:
    return [Cell(subject, name, PATIENCE, {"T=5 B=3": 1e-7}) for name in ("onnx-reference", "onnxruntime-cpu", "torch")]


def test_the_rows_are_those_of_one_process_in_the_same_order(subject):
    told: list[tuple[str, int, int]] = []
    found = run_in_processes(cells_of(subject), lambda *words: told.append(words), jobs=2)
    assert found == run_here(cells_of(subject))
    assert sorted(told) == [(name, 4, 4) for name in ("onnx-reference", "onnxruntime-cpu", "torch")]


def test_verify_gives_the_same_report_with_any_number_of_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    artifact = export("rnn:3,4,relu", tmp_path / "net", form="rnn")
    one, two = (verify(artifact.path, runtimes=["onnxruntime-cpu", "onnx-reference"], jobs=jobs) for jobs in (1, 2))
    assert (one.results, one.runtimes) == (two.results, two.runtimes)
    with pytest.raises(UsageError, match="--jobs 1"):
        verify(artifact.path, jobs=0)


def test_what_our_own_code_raises_there_is_raised_here(subject):
    unknown = Cell(subject, "onnxruntime-cpy", PATIENCE, {})
    with pytest.raises(UsageError, match="Did you mean 'onnxruntime-cpu'"):
        run_in_processes([unknown, *cells_of(subject)], jobs=2)


class KillsOnce(Cell):
    """Ends the process that runs it, unless the file is there."""

    def __getattribute__(self, name: str):
        if name == "subject" and os.environ.get("KILL_HERE") == str(os.getppid()):
            place = Path(os.environ["KILL_MARK"])
            if os.environ["KILL_ALWAYS"] or not place.exists():
                place.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


@pytest.mark.parametrize("always", [False, True])
def test_a_worker_that_is_killed_loses_no_other_cell(subject, always, tmp_path, monkeypatch):
    monkeypatch.setenv("KILL_HERE", str(os.getpid()))  # in children of this process, and not here
    monkeypatch.setenv("KILL_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("KILL_ALWAYS", "1" if always else "")
    expected = run_here(cells_of(subject))
    deadly = KillsOnce(subject, "onnxruntime-cpu", PATIENCE, {"T=5 B=3": 1e-7})
    found = run_in_processes([deadly, *cells_of(subject)], jobs=2)
    assert found[1:] == expected
    assert (tmp_path / "mark").exists()
    if always:
        assert [(row.status, row.code) for row in found[0].rows] == [(Status.CRASHED, "crashed")]
        assert "killed, twice" in found[0].rows[0].detail
    else:
        assert found[0] == expected[1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_verification_leaves_no_process_behind(signum, tmp_path):
    artifact = export("rnn:3,4", tmp_path / "net")
    line = [sys.executable, "-m", "rnn_export", "verify", str(artifact.path), "--jobs", "2"]
    line += [word for name in ("onnx-reference", "onnxruntime-cpu", "torch") for word in ("--runtime", name)]
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    running = subprocess.Popen(line, env={**os.environ, "TMPDIR": str(scratch)}, **quiet)
    try:
        deadline = time.monotonic() + PATIENCE
        while len(below := descendants(running.pid)) < 4:  # two workers, a child of one, and what watches them
            assert running.poll() is None, "it ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.send_signal(signum)
        assert running.wait(PATIENCE) in (130, 143, -signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while any(is_running(pid) for pid in below):
            assert time.monotonic() < deadline, [pid for pid in below if is_running(pid)]
            time.sleep(0.05)
        assert signum is signal.SIGKILL or list(scratch.iterdir()) == []
    finally:
        running.kill()
        running.wait()


def descendants(pid: int) -> list[int]:
    found = []
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in place.read_text().split()]
        except FileNotFoundError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def test_a_parcel_brings_its_files_along(subject):
    parcel = Parcel.pack(subject)
    moved = replace(subject, folder=subject.folder / "gone", instrumented=None)
    with replace(parcel, subject=moved).unpacked() as there:
        assert there.folder != subject.folder
        assert there.instrumented is not None
        (cell,) = run_here([Cell(there, "onnxruntime-cpu", PATIENCE, {})])
    assert not there.folder.exists()
    assert [row.status for row in cell.rows] == [Status.PASS] * len(NAMES)
