"""Cells: one subject on one runtime each, the unit of work that processes and machines share."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rnn_export.record import Record
from rnn_export.result import Result, Stage, Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.subject import Subject
from rnn_export.verification import Progress, Verified, verify_runtime

Files = Mapping[str, bytes]  # name relative to its folder -> content
# Bytes of weights and inputs that every worker may have a copy of; beyond it one process does all.
MOST_COPIED = 2**28


@dataclass(frozen=True)
class Cell:
    """One subject on one runtime.

    Attributes:
        subject: what is verified; its folders are there where the cell runs.
        runtime: the name.
        timeout: seconds per request to the runtime's child.
        torch_errors: torch's largest error by case, the denominator of ``ratio``.
        environ: variables for the runtime's child beside its own, such as which server it asks.
    """

    subject: Subject
    runtime: str
    timeout: float
    torch_errors: Mapping[str, float]
    environ: Mapping[str, str] = field(default_factory=dict)


# What each cell showed, in the order of the cells
Engine = Callable[[Sequence[Cell], Progress | None], list[Verified]]


def run_cell(cell: Cell, progress: Progress | None = None) -> Verified:
    """All cases of the cell."""
    runtime = RUNTIMES.get(cell.runtime)
    runtime = replace(runtime, environ={**runtime.environ, **cell.environ})
    return verify_runtime(
        cell.subject, runtime, timeout=cell.timeout, torch_errors=cell.torch_errors, progress=progress
    )


def run_here(cells: Sequence[Cell], progress: Progress | None = None) -> list[Verified]:
    """One after the other, in this process."""
    return [run_cell(cell, progress) for cell in cells]


def lost(cell: Cell, detail: str) -> Verified:
    """The row of a cell that no worker lived to finish."""
    row = Result(cell.runtime, "", "", Stage.RUN, Status.CRASHED, "crashed", detail=detail)
    return Verified([row], Record(cell.runtime))


def copied_bytes(subject: Subject) -> int:
    """How much a worker holds of its own."""
    cases = sum(case.x.nbytes + case.h_0.nbytes for case in subject.cases)
    return cases + sum(array.nbytes for array in subject.weights.values())


def available_processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Parcel:
    """A subject with the files of its folders, for a machine that does not have them."""

    subject: Subject
    folder: Files
    instrumented: Files | None

    @classmethod
    def pack(cls, subject: Subject) -> "Parcel":
        copy = subject.instrumented
        return cls(subject, _read_files(subject.folder), None if copy is None else _read_files(copy))

    @contextmanager
    def unpacked(self) -> Iterator[Subject]:
        """The subject with folders of its own, for as long as it is used."""
        with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
            folder, copy = Path(scratch) / "subject", Path(scratch) / "instrumented"
            _write_files(folder, self.folder)
            if self.instrumented is not None:
                _write_files(copy, self.instrumented)
            yield replace(self.subject, folder=folder, instrumented=None if self.instrumented is None else copy)


def _read_files(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _write_files(folder: Path, files: Files) -> None:
    folder.mkdir()
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
