"""One way to reach one model on one server: a URL and an encoding, asked from a child process."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnn_export.canary import FOLDER
from rnn_export.child import Child, Failure
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.errors import UsageError
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.runtimes._server_settings import BINARY_EXTENSION
from rnn_export.server_address import ServerAddress

Arrays = Mapping[str, NDArray[Any]]
OPEN_INFERENCE = "open-inference"
IN_JSON = ("FP32", "FP64")


@dataclass(frozen=True)
class Step:
    """One request of a client.

    Attributes:
        key: which request of the plan.
        sequence: its number within the plan, from 1; 0 where it belongs to none.
        start, end: whether it is the first and the last request of its sequence.
    """

    key: str
    sequence: int = 0
    start: bool = False
    end: bool = False


class Refused(NamedTuple):
    """A kind of error: the request's key, what was said, how often, and the status, empty where no server said it."""

    key: str
    said: str
    times: int
    status: str


@dataclass(frozen=True)
class Replies:
    """What came of a plan.

    Attributes:
        answers: key -> its distinct answers, each named arrays.
        counts: key -> how often each of them came.
        errors: key, what was said, how often, and the server's status; without one it was not the server that said it.
        latency: (n,), seconds of each request that was answered.
        wall: seconds of the whole plan.
        dropped: answers that were too many to be kept.
        runs: of the model, for all of them; None where the server does not count.
    """

    answers: Mapping[str, list[dict[str, NDArray[Any]]]]
    counts: Mapping[str, list[int]]
    errors: Sequence[Refused]
    latency: NDArray[np.float64]
    wall: float
    dropped: int
    runs: int | None

    @property
    def answered(self) -> int:
        return len(self.latency)

    @property
    def joined(self) -> bool:
        """Whether the server put requests together; False where it does not count."""
        return self.runs is not None and self.runs < self.answered


class Description(NamedTuple):
    """What a server says of itself and of the model."""

    live: bool
    ready: bool
    model_ready: bool
    server: Mapping[str, Any]
    metadata: Mapping[str, Any] | None
    config: Mapping[str, Any] | None

    @property
    def version(self) -> str:
        """The server's name and version, in a word or two."""
        return f"{self.server.get('name', '')} {self.server.get('version', '')}".strip()


def server_runtime(address: ServerAddress, name: str = OPEN_INFERENCE) -> Runtime:
    """The runtime ``open-inference`` for one server, under a name for its rows.

    Raises:
        UsageError: the client is not installed.
    """
    runtime = RUNTIMES.get(OPEN_INFERENCE)
    if interpreter_of(runtime) is None:
        raise UsageError(
            "the client of the Open Inference Protocol is not installed", f"Run: {how_to_install(runtime)}"
        )
    return replace(runtime, name=name, environ={**runtime.environ, **address.environ})


class Endpoint:
    """A model on a server, reached in one way; a context manager.

    Args:
        runtime: what ``server_runtime`` made.
        timeout: seconds for a request.

    Raises:
        Failure: the client cannot be started.
    """

    def __init__(self, runtime: Runtime, timeout: float) -> None:
        self.runtime, self._timeout = runtime, timeout
        interpreter = interpreter_of(runtime)
        assert interpreter is not None  # server_runtime looked
        # A plan is many requests: each has the limit, and the child as a whole ten of them
        self._child = Child(runtime, interpreter, 10 * timeout)
        self._network = -1

    def __enter__(self) -> Self:
        try:
            self._child.wait_until_ready()
        except Failure:
            self._child.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.close()

    def connect(self) -> None:
        """Raises Failure where the server or the model is not ready."""
        self._child.prepare(FOLDER)
        self._network += 1

    def describe(self) -> Description:
        """Raises Failure where the server cannot be asked."""
        found = self._plan({"do": "describe"}, {})[0]
        live, ready, model_ready = (bool(found[name]) for name in ("live", "ready", "model_ready"))
        return Description(live, ready, model_ready, found["server"], found.get("metadata"), found.get("config"))

    def send(
        self, clients: Sequence[Sequence[Step]], requests: Mapping[str, Arrays], *, rounds: int = 1, seconds: float = 0
    ) -> Replies:
        """All clients at once, each with its steps in order, so many times or for so long.

        Args:
            clients: one list of steps for each.
            requests: key -> named arrays, batch first.
            rounds: how often each goes through its list.
            seconds: for how long, instead.

        Raises:
            Failure: the client died or took too long.
        """
        plan = {
            "do": "requests",
            "clients": [[vars(step) for step in steps] for steps in clients],
            "rounds": rounds,
            "seconds": seconds,
        }
        arrays = {f"{key}:{name}": array for key, named in requests.items() for name, array in named.items()}
        report, found = self._plan(plan, arrays)
        answers: dict[str, list[dict[str, NDArray[Any]]]] = {
            key: [{} for _ in counts] for key, counts in report["counts"].items()
        }
        latency = np.asarray(found.pop("latency"))
        for place, array in found.items():
            key, number, name = place.split(":", 2)
            answers[key][int(number)][name] = array
        errors = [Refused(*error) for error in report["errors"]]
        return Replies(answers, report["counts"], errors, latency, report["wall"], report["dropped"], report["runs"])

    def load(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Load a model into a Triton in explicit mode.

        Raises:
            Failure: it refused, in its own words.
        """
        arrays = {path: np.frombuffer(content, np.uint8) for path, content in files.items()}
        self._plan({"do": "load", "name": name, "config": config}, arrays)

    def unload(self, name: str) -> None:
        """Take a model out of a Triton in explicit mode again.

        Raises:
            Failure: the server did not do it.
        """
        self._plan({"do": "unload", "name": name}, {})

    def _plan(self, plan: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        text = json.dumps({**plan, "timeout": self._timeout}).encode()
        found = self._child.run(self._network, {"plan": np.frombuffer(text, np.uint8), **arrays})
        report = json.loads(bytes(found.pop("report")))
        return report, found


def encodings_of(url: str, extensions: Sequence[str], datatype: str) -> list[str]:
    """In which ways a server can be asked at a URL; each is named as in the rows of a report.

    Args:
        url: its address.
        extensions: what it says that it can.
        datatype: of the network; JSON has neither FP16 nor BF16.
    """
    if url.startswith("grpc://"):
        return ["grpc"]
    binary = ["http-binary"] if BINARY_EXTENSION in extensions else []
    return binary if binary and datatype not in IN_JSON else [*binary, "http-json"]


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by their places in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
