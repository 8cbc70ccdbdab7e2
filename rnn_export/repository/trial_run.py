"""One run of somebody's ONNX file in a child process, at inputs of one's choice: what the trials of a file share."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from rnn_export.child import Child, Failure
from rnn_export.execution import prepared
from rnn_export.repository.data_types import DTYPES
from rnn_export.repository.trial_inputs import Arrays, Feeds
from rnn_export.repository.weight_files import memory_limit, weight_files
from rnn_export.rules import Graph, Value
from rnn_export.runtimes import RUNTIMES

RUNTIME = "onnxruntime-cpu"
SCALES = (1.0, 2.0**-5)  # of the inputs: large ones may saturate a network, so that nothing reaches anything
TIMEOUT, MOST_SECONDS = 60.0, 60.0  # of one answer, and of all, for a file that may be anybody's


class Unproved(Exception):  # noqa: N818
    """The file could not be run, or its runs show nothing; the message says why."""


@dataclass(frozen=True)
class Question:
    """What to find out about a file.

    Attributes:
        file: the ONNX file.
        graph: what it declares.
        outputs: those that the server passes on.
        batched: whether axis 0 is taken for the batch.
        pinned: sizes that the configuration fixes, by input: its whole shape, -1 where it does not.
        flags: integer inputs that are 0 or 1.
    """

    file: Path
    graph: Graph
    outputs: tuple[Value, ...]
    batched: bool
    pinned: Mapping[str, Sequence[int]]
    flags: frozenset[str] = frozenset()


class TrialRun:
    """A file that is loaded in a child process."""

    def __init__(self, question: Question, child: Child) -> None:
        self.question = question
        self.feeds = Feeds(question.graph, question.pinned, question.flags)
        self._child = child
        self._deadline = time.monotonic() + MOST_SECONDS

    def run(self, feed: Arrays) -> Arrays:
        """The outputs that the server passes on.

        Raises:
            Failure: it refuses the input, or its process is gone.
            Unproved: its runs take too long.
        """
        if time.monotonic() > self._deadline:
            raise Unproved(f"its runs take more than {MOST_SECONDS:.0f} seconds")
        answers = self._child.run(1, feed)
        return {value.name: answers[value.name] for value in self.question.outputs}

    def words(self, failure: Failure) -> str:
        """What a refusal says; raises it where there is no child any more."""
        if not self._child.alive:
            raise failure
        return failure.detail


@contextmanager
def loaded(question: Question) -> Iterator[TrialRun]:
    """The file in a child process; nothing of it reaches this one but arrays.

    Raises:
        Unproved: it cannot be loaded, or what is made of it fails.
    """
    if strange := [value for value in question.graph.inputs if value.data_type not in DTYPES]:
        kind = strange[0].data_type or "no tensor"
        raise Unproved(f"the input {strange[0]} holds {kind}, which is not made here")
    with _as_model(question.file) as folder:
        try:
            with prepared(RUNTIMES.get(RUNTIME), [folder], TIMEOUT, memory_limit(question.file)) as child:
                yield TrialRun(question, child)
        except Failure as failure:
            said = failure.detail.replace(f"{folder}{os.sep}", "")
            raise Unproved(f"{RUNTIME} {failure.status.value}: {said}") from None


@contextmanager
def _as_model(file: Path) -> Iterator[Path]:
    """A folder where the file is model.onnx, with its weights beside it: a runtime reads that name only."""
    if file.name == "model.onnx":
        yield file.parent
        return
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        shutil.copyfile(file, Path(scratch) / "model.onnx")
        for name in weight_files(onnx.load(file, format="protobuf", load_external_data=False)):
            if len(name.parts) == 1 and (file.parent / name).is_file():
                shutil.copyfile(file.parent / name, Path(scratch) / name)
        yield Path(scratch)


def same(found: NDArray[np.generic], expected: NDArray[np.generic]) -> bool:
    """Bit for bit."""
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


def all_same(found: Arrays, expected: Arrays) -> bool:
    """Bit for bit, every output."""
    return all(same(found[name], expected[name]) for name in expected)
