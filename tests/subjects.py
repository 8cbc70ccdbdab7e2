"""What several tests verify: subjects of drawn networks, and runtimes that misbehave as they are told."""

import importlib.util
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rnn_export.checkpoint import load_checkpoint
from rnn_export.pipeline import export
from rnn_export.result import Result
from rnn_export.runtimes import Runtime
from rnn_export.subject import Subject, subject_of_artifact
from rnn_export.verification import verify_runtime
from rnn_export.weights import Weights

FAKES = Path(__file__).parent / "fakes"
PATIENCE = 30.0  # seconds; a slow machine is not what these tests are about


def fake(file: str, **environ: str) -> Runtime:
    """The runtime of tests/fakes/FILE.py; its environment tells it how to misbehave."""
    spec = importlib.util.spec_from_file_location(f"fake_{file}", FAKES / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Runtime(f"fake-{file}", "misbehaves", ("onnxruntime",), module.prepare, environ=environ)


def random_weights(text: str) -> Weights:
    """The weights of a spec string such as ``rnn:3,4,relu``."""
    return load_checkpoint(text).weights


def drawn_subject(source: str | Weights, folder: Path, form: str = "scan", opset: int = 18) -> Subject:
    """An artifact of that form, made in ``folder``, as what is verified."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    return subject_of_artifact(export(source, folder / "artifact", form=form, opset=opset).path, scratch)


def only(subject: Subject, *names: str) -> Subject:
    """The subject with these cases alone."""
    known = {case.name: case for case in subject.cases}
    return replace(subject, cases=[known[name] for name in names])


def rows_of(
    subject: Subject, runtime: Runtime, timeout: float = PATIENCE, torch_errors: Mapping[str, float] | None = None
) -> list[Result]:
    return verify_runtime(subject, runtime, timeout=timeout, torch_errors=torch_errors or {}).rows


def is_running(pid: int) -> bool:
    """False for a process that has ended, also where nobody has asked yet how."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def ends_within(pid: int, seconds: float) -> bool:
    """Whether the process ends in that time."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        if not is_running(pid):
            return True
        time.sleep(0.02)
    return False


def descendants() -> set[int]:
    """The processes of this machine that were started by this one or by one of those."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in "ZX":
                parents[int(entry.name)] = int(fields[1])
    found, last = {os.getpid()}, 0
    while len(found) > last:
        last = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {os.getpid()}
