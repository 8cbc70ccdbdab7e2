"""The parent's side of a child process: it starts it, asks it, and says what became of it."""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rnn_export import worker
from rnn_export.result import Stage, Status
from rnn_export.runtimes import Runtime

MEMORY_LIMIT = 4 * 2**30  # torch's own address space is 0.6 GiB, ONNX Runtime's 0.2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Failure(Exception):  # noqa: N818
    """The child did not answer with arrays: what it means, and in its own words."""

    def __init__(self, stage: Stage, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.stage = stage
        self.status = status
        self.detail = detail


class Child:
    """One runtime in a process of its own; a context manager.

    Args:
        runtime: whose adapter the child loads.
        interpreter: the Python of the environment that has the runtime.
        timeout: seconds for each request, and for the start.
        memory_limit: bytes of address space; a runtime may opt out.
    """

    def __init__(self, runtime: Runtime, interpreter: Path, timeout: float, memory_limit: int = MEMORY_LIMIT) -> None:
        self.version = ""
        self._timeout = timeout
        self._timed_out = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        limit = memory_limit if runtime.limit_address_space else 0
        self._process = subprocess.Popen(
            # -P: the folder of worker.py must not become importable as top-level modules
            [str(interpreter), "-P", worker.__file__, str(runtime.file), runtime.distribution, str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**_environment(runtime), **ONE_THREAD, **runtime.environ},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Raises Failure where the adapter itself could not be loaded."""
        header, _ = self._listen(Stage.FIND)
        self.version = str(header["version"])

    def prepare(self, folder: Path) -> None:
        """Make ready the network in that folder; networks are numbered from 0 in the order of preparation."""
        self._ask(Stage.PREPARE, {"do": "prepare", "folder": str(folder)}, {})

    def run(self, network: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The named outputs of one of the prepared networks."""
        return self._ask(Stage.RUN, {"do": "run", "network": network}, inputs)

    @property
    def alive(self) -> bool:
        """False once the process has ended or was ended."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and everything that it started; it holds nothing worth a farewell."""
        self._kill()  # the group, also when its leader is gone: what a crashed runtime started lives on
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:  # bytes that a dead child never read
                    continue

    def _ask(self, stage: Stage, request: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        watch = self._watch()
        try:
            worker.send(self._process.stdin, request, inputs)
        except OSError:  # it died before it read all: listening tells how
            watch.cancel()
        header, outputs = self._listen(stage, watch)
        if header["status"] != Status.PASS.value:
            raise Failure(stage, Status(header["status"]), str(header["detail"]))
        return outputs

    def _listen(self, stage: Stage, watch: threading.Timer | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        assert self._process.stdout is not None
        watch = watch or self._watch()
        try:
            return worker.receive(self._process.stdout)
        except (EOFError, OSError):
            raise self._post_mortem(stage) from None
        except (ValueError, KeyError) as error:
            self._kill()
            raise Failure(stage, Status.CRASHED, f"answered out of protocol: {error}") from None
        finally:
            watch.cancel()

    def _watch(self) -> threading.Timer:
        timer = threading.Timer(self._timeout, self._time_out)
        timer.daemon = True
        timer.start()
        return timer

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _post_mortem(self, stage: Stage) -> Failure:
        code = self._process.wait()
        self._kill()
        if self._timed_out:
            return Failure(stage, Status.TIMEOUT, f"no answer within {self._timeout:g} s (--timeout)")
        last = self._last_words()
        if "bad_alloc" in last or "MemoryError" in last:
            return Failure(stage, Status.MEMORY, f"out of memory: {last}")
        if "ModuleNotFoundError" in last or "ImportError" in last:
            return Failure(stage, Status.ABSENT if stage is Stage.FIND else Status.CRASHED, last)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Failure(stage, Status.CRASHED, f"the process ended with {how}" + (f": {last}" if last else ""))

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:500] if lines else ""


def _environment(runtime: Runtime) -> dict[str, str]:
    """The parent's variables, without those that would mix its packages into a runtime's own environment."""
    mixing = ("PYTHONPATH", "PYTHONHOME") if runtime.own_environment else ()
    return {name: value for name, value in os.environ.items() if name not in mixing}
