"""The parent's side of a child process: it starts it, asks it, and says what became of it."""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rnn_export import worker
from rnn_export.documents import from_document
from rnn_export.element_types import from_bits
from rnn_export.record import Placement
from rnn_export.result import Stage, Status
from rnn_export.runtimes import THREADS_VARIABLE, Runtime

LAST_BREATH = 1.0  # seconds from closing its pipe to its end, for a process that is ending
MEMORY_LIMIT = 4 * 2**30  # torch's own address space is 0.6 GiB, ONNX Runtime's 0.2
THREADS = 1  # of a runtime that is verified: answers do not depend on the number of cores
THREAD_VARIABLES = (THREADS_VARIABLE, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Failure(Exception):  # noqa: N818
    """The child did not answer with arrays: what it means, and in its own words."""

    def __init__(self, stage: Stage, status: Status, detail: str, placement: Placement | None = None) -> None:
        super().__init__(detail)
        self.stage = stage
        self.status = status
        self.detail = detail
        self.placement = placement


@dataclass(frozen=True)
class Timed:
    """A prepared network, run again and again.

    Attributes:
        seconds: of each run, inside the child: what the pipe takes is not in them.
        peak_bytes: the most memory that the child ever had resident.
    """

    seconds: tuple[float, ...]
    peak_bytes: int


class Child:
    """One runtime in a process of its own; a context manager.

    Args:
        runtime: whose adapter the child loads.
        interpreter: the Python of the environment that has the runtime.
        timeout: seconds for each request, and for the start.
        memory_limit: bytes of address space; a runtime may opt out.
        threads: how many the runtime may compute with.

    Raises:
        Failure: the interpreter cannot be started.

    Attributes:
        placement: where the nodes of the network that was prepared last are, if the runtime says so.
    """

    def __init__(
        self,
        runtime: Runtime,
        interpreter: Path,
        timeout: float,
        memory_limit: int = MEMORY_LIMIT,
        threads: int = THREADS,
    ) -> None:
        self.version = ""
        self.placement: Placement | None = None
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # What a runtime leaves there goes with it: once ended, it can remove nothing itself.
        self._scratch = tempfile.TemporaryDirectory(prefix="rnn-export-", ignore_cleanup_errors=True)
        limit = memory_limit if runtime.limit_address_space else 0
        limits = dict.fromkeys(THREAD_VARIABLES, str(threads))
        try:
            self._process = subprocess.Popen(
                # -P: the folder of worker.py must not become importable as top-level modules
                [str(interpreter), "-P", worker.__file__, str(runtime.file), runtime.distribution, str(limit)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env={**_environment(runtime), **limits, "TMPDIR": self._scratch.name, **runtime.environ},
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            self._scratch.cleanup()
            raise Failure(Stage.FIND, Status.BROKEN, f"its Python cannot be started: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Raises Failure where the adapter itself could not be loaded."""
        header, _ = self._listen(Stage.FIND, time.monotonic() + self._timeout)
        with self._protocol(Stage.FIND):
            self.version = str(header["version"])

    def prepare(self, folder: Path) -> float:
        """Make ready the network in that folder; networks are numbered from 0 in the order of preparation.

        Returns:
            The seconds that it took inside the child; the first network's pay for the import of the runtime.
        """
        header, _ = self._ask(Stage.PREPARE, {"do": "prepare", "folder": str(folder)}, {})
        with self._protocol(Stage.PREPARE):
            return float(header["seconds"])

    def run(self, network: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The named outputs of one of the prepared networks."""
        return self._ask(Stage.RUN, {"do": "run", "network": network}, inputs)[1]

    def time(self, network: int, inputs: Mapping[str, Any], seconds: float) -> Timed:
        """Run one of the prepared networks again and again on the same inputs, for about so many seconds.

        It runs three times at least, and the time limit of a request begins when the seconds are over.
        """
        request = {"do": "time", "network": network, "seconds": seconds}
        header, outputs = self._ask(Stage.RUN, request, inputs, patience=seconds)
        with self._protocol(Stage.RUN):
            return Timed(tuple(outputs["seconds"].tolist()), int(header["peak_bytes"]))

    @property
    def alive(self) -> bool:
        """False once the process has ended or was ended."""
        if self._process.returncode is not None:
            return False
        # WNOWAIT: it stays unreaped, so that its group can still be ended by its number
        ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is None

    def close(self) -> None:
        """End the process and everything that it started; it holds nothing worth a farewell."""
        self._kill()  # the group, also when its leader is gone: what a crashed runtime started lives on
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:  # bytes that a dead child never read
                    continue
        self._scratch.cleanup()

    def _ask(
        self, stage: Stage, request: Mapping[str, Any], inputs: Mapping[str, Any], patience: float = 0.0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        deadline = time.monotonic() + self._timeout + patience
        try:
            worker.send(_Pipe(self._process.stdin, deadline), request, inputs)
        except TimeoutError:
            raise self._timed_out(stage) from None
        except OSError:
            pass  # it died before it read all: listening tells how
        header, outputs = self._listen(stage, deadline)
        placement: Placement | None = header.get("placement")
        with self._protocol(stage):
            status, detail = Status(header["status"]), str(header.get("detail", ""))
        if status is not Status.PASS:
            raise Failure(stage, status, detail, placement)
        if stage is Stage.PREPARE:
            self.placement = placement
        return header, {name: from_bits(array) for name, array in outputs.items()}

    def _listen(self, stage: Stage, deadline: float) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            header, outputs = worker.receive(_Pipe(self._process.stdout, deadline))
            if header.get("placement") is not None:
                header["placement"] = from_document(Placement, header["placement"], "placement")
            return header, outputs
        except TimeoutError:
            raise self._timed_out(stage) from None
        except (EOFError, OSError):
            raise self._post_mortem(stage) from None
        except MemoryError:
            self._kill()
            raise Failure(stage, Status.MEMORY, "its answer does not fit into this process's memory") from None
        except (ValueError, KeyError) as error:
            self._kill()
            raise Failure(stage, Status.CRASHED, f"answered out of protocol: {error}") from None

    @contextmanager
    def _protocol(self, stage: Stage) -> Iterator[None]:
        """What is read out of an answer is what belongs there, or the child is at fault."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._kill()
            raise Failure(stage, Status.CRASHED, f"answered out of protocol: {error}") from None

    def _timed_out(self, stage: Stage) -> Failure:
        self._kill()
        return Failure(stage, Status.TIMEOUT, f"no answer within {self._timeout:g} s (--timeout)")

    def _kill(self) -> None:
        """The group of a process that is not reaped yet: its number cannot be somebody else's."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _post_mortem(self, stage: Stage) -> Failure:
        """Why it closed its pipe: how it ended, or that it lives on and is ended now."""
        deadline = time.monotonic() + LAST_BREATH
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.005)
        lives_on = self.alive
        self._kill()
        code = self._process.wait()
        if lives_on:
            return Failure(stage, Status.CRASHED, "it closed its pipe and did not end")
        last = self._last_words()
        if "bad_alloc" in last or "MemoryError" in last:
            return Failure(stage, Status.MEMORY, f"out of memory: {last}")
        if stage is Stage.FIND and code > 0:  # the adapter itself could not be loaded
            return Failure(stage, Status.BROKEN, f"the adapter cannot be loaded: {last}")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Failure(stage, Status.CRASHED, f"the process ended with {how}" + (f": {last}" if last else ""))

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:500] if lines else ""


class _Pipe:
    """One end of a pipe to the child, with a deadline for every read and write.

    A timer that kills the child would not do: what the child started may hold the other end open.
    """

    def __init__(self, stream: IO[bytes] | None, deadline: float) -> None:
        assert stream is not None  # both were asked for when the process was started
        self._descriptor = stream.fileno()
        self._deadline = deadline
        os.set_blocking(self._descriptor, False)

    def read(self, size: int) -> bytes:
        """Exactly size bytes, fewer at the end of the stream; raises TimeoutError."""
        parts, missing = [], size
        while missing:
            self._check_deadline()
            try:
                part = os.read(self._descriptor, min(missing, 2**20))
            except BlockingIOError:
                self._wait(reading=True)
                continue
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def write(self, data: bytes | memoryview) -> None:
        """All of data; raises TimeoutError."""
        view = memoryview(data)
        while view:
            self._check_deadline()
            try:
                view = view[os.write(self._descriptor, view[: 2**16]) :]
            except BlockingIOError:
                self._wait(reading=False)

    def flush(self) -> None:
        """Nothing is held back."""

    def _wait(self, *, reading: bool) -> None:
        ends = ([self._descriptor], []) if reading else ([], [self._descriptor])
        if not any(select.select(*ends, [], max(0.0, self._deadline - time.monotonic()))):
            raise TimeoutError

    def _check_deadline(self) -> None:
        """Also where the other side never keeps anybody waiting: it may never end either."""
        if time.monotonic() >= self._deadline:
            raise TimeoutError


def _environment(runtime: Runtime) -> dict[str, str]:
    """The parent's variables, without those that would mix its packages into a runtime's own environment."""
    mixing = ("PYTHONPATH", "PYTHONHOME", "NODE_PATH", "NODE_OPTIONS") if runtime.own_environment else ()
    return {name: value for name, value in os.environ.items() if name not in mixing}
