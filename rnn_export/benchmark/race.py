"""A race: entrants in processes of their own that all stay alive, timed in turn, round after round."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from rnn_export import canary
from rnn_export.child import MEMORY_LIMIT, Child, Failure
from rnn_export.environments import how_to_install, installed_version, interpreter_of
from rnn_export.result import Stage, Status
from rnn_export.runtimes import RUNTIMES

NETWORK = 1  # the canary is 0
SETTLE = 0.005  # seconds before a turn: the one before has written its answer, and sleeps
SETTLE_THREADS = 0.1  # the same with several threads: those of ONNX Runtime 1.32 spin for 50 ms first
WARM_UP = 0.5  # of a turn: caches, lazily made buffers, the processor's clock
COMPILING = 10  # times the patience for what compiles anew for the shapes that it gets
COPIES = 8  # of weights and inputs: the file, the parsed model, prepacked weights, every step's state
THREAD_MEMORY = 2**28  # bytes of address space of each further thread: its stack, and an arena of malloc's


@dataclass(frozen=True)
class Entrant:
    """A network on a runtime.

    Attributes:
        label: its name in the results.
        runtime: the runtime's name.
        folder: holds model.onnx and weights.safetensors.
        inputs: named arrays, as the model declares them.
        threads: how many the runtime may compute with.
    """

    label: str
    runtime: str
    folder: Path
    inputs: Mapping[str, Any] = field(repr=False)
    threads: int = 1


@dataclass(frozen=True)
class Laps:
    """What an entrant did.

    Attributes:
        label: whose.
        version: of the runtime's package.
        seconds: of one run, the median of each round's turn; without all rounds where it failed.
        load_seconds: that the runtime took to load the network, its own import not counted.
        peak_bytes: the most memory that its process ever had resident, the runtime itself included.
        answers: the named outputs, of one run after the last round.
        status: PASS where it ran to the end, otherwise how it failed.
        detail: why, in words.
    """

    label: str
    version: str = ""
    seconds: tuple[float, ...] = ()
    load_seconds: float | None = None
    peak_bytes: int | None = None
    answers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    status: Status = Status.PASS
    detail: str = ""


def race(
    entrants: Sequence[Entrant],
    rounds: int,
    seconds: float,
    *,
    timeout: float = 60.0,
    before_round: Callable[[int], None] = lambda _: None,
) -> list[Laps]:
    """Time every entrant in turn, in the opposite order every other round; a failure is the end of its own laps only.

    Args:
        entrants: whom; each is first warmed up.
        rounds: how many turns each has.
        seconds: of a turn, in which it runs three times at least.
        timeout: seconds per request to a child, ten times as many where the runtime compiles for the shapes.
        before_round: is called with the number of the round, from 0, while nobody runs.

    Returns:
        The laps of every entrant, in their order.
    """
    with ExitStack() as children:
        runners = [_Runner(entrant, timeout, children) for entrant in entrants]
        for runner in runners:
            runner.start(seconds * WARM_UP)
        for number in range(rounds):
            before_round(number)
            for runner in runners if number % 2 == 0 else reversed(runners):
                runner.turn(seconds)
        for runner in runners:
            runner.finish()
    return [runner.laps() for runner in runners]


class _Runner:
    """An entrant's child, and what it showed so far."""

    def __init__(self, entrant: Entrant, timeout: float, children: ExitStack) -> None:
        self._entrant = entrant
        self._runtime = RUNTIMES.get(entrant.runtime)
        self._timeout = timeout * (COMPILING if self._runtime.slow_to_compile else 1)
        self._children = children
        self._child: Child | None = None
        self._failure: Failure | None = None
        self._seconds: list[float] = []
        self._version = installed_version(self._runtime)
        self._load: float | None = None
        self._peak: int | None = None
        self._answers: Mapping[str, Any] = {}

    def start(self, warm_up: float) -> None:
        try:
            child = self._child = self._children.enter_context(self._new_child())
            child.wait_until_ready()
            self._version = child.version or self._version
            canary.sing(child, self._runtime.reads)
            self._load = child.prepare(self._entrant.folder)
            child.time(NETWORK, self._entrant.inputs, warm_up)
        except Failure as failure:
            self._fail(failure)

    def turn(self, seconds: float) -> None:
        if self._child is None:
            return
        time.sleep(SETTLE if self._entrant.threads == 1 else SETTLE_THREADS)
        try:
            timed = self._child.time(NETWORK, self._entrant.inputs, seconds)
        except Failure as failure:
            self._fail(failure)
            return
        self._seconds.append(median(timed.seconds))
        self._peak = timed.peak_bytes

    def finish(self) -> None:
        """Ask for the answers, after all that is measured: they go through a pipe and take memory on the way."""
        if self._child is None:
            return
        try:
            self._answers = self._child.run(NETWORK, self._entrant.inputs)
        except Failure as failure:
            self._fail(failure)

    def laps(self) -> Laps:
        done = (tuple(self._seconds), self._load, self._peak, self._answers)
        laps = Laps(self._entrant.label, self._version, *done)
        failure = self._failure
        return laps if failure is None else replace(laps, status=failure.status, detail=failure.detail)

    def _new_child(self) -> Child:
        interpreter = interpreter_of(self._runtime)
        if interpreter is None:
            raise Failure(Stage.FIND, Status.ABSENT, f"not installed: {how_to_install(self._runtime)}")
        files = [file.stat().st_size for file in self._entrant.folder.rglob("*") if file.is_file()]
        arrays = [array.nbytes for array in self._entrant.inputs.values()]
        more = COPIES * (sum(files) + sum(arrays)) + THREAD_MEMORY * (self._entrant.threads - 1)
        return Child(self._runtime, interpreter, self._timeout, MEMORY_LIMIT + more, self._entrant.threads)

    def _fail(self, failure: Failure) -> None:
        """Its child ends now: one that was given up computes no longer beside the others."""
        self._failure = failure
        if self._child is not None:
            self._child.close()
        self._child = None
