"""A real server on this machine, with a bundle or a model repository: started, waited for, and stopped."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rnn_export.bundle import Bundle, is_bundle
from rnn_export.environments import environment_of, how_to_install, interpreter_of
from rnn_export.errors import ArtifactError, InstallationError, OutputError, UsageError
from rnn_export.runtimes import RUNTIMES, Absent
from rnn_export.runtimes._launching import (
    HOST,
    Process,
    ServerDied,
    free_ports,
    has_ended,
    is_free,
    last_words,
    stop,
    wait_ready,
)
from rnn_export.runtimes._mlserver import start_mlserver
from rnn_export.runtimes._triton import forget_shared_memory, start_triton

HTTP_PORT, GRPC_PORT, TIMEOUT = 8000, 8001, 60.0
SERVERS = {"triton-python": "triton", "mlserver": "mlserver"}  # target -> the runtime whose environment has the server
_BACKEND = re.compile(r'^\s*(backend|platform)\s*:\s*"([^"]*)"', re.MULTILINE)
_ONNX_BACKENDS = ("onnxruntime", "onnxruntime_onnx")
_SHIP = "Ship it with --target triton-python, which runs the same file"


@dataclass(frozen=True)
class Served:
    """What a folder asks for.

    Attributes:
        server: "triton" or "mlserver".
        folder: of the models.
        names: of the models.
        bundle: whether it is one of ours, which can be probed.
    """

    server: str
    folder: Path
    names: tuple[str, ...]
    bundle: bool


@dataclass(frozen=True)
class Running:
    """A server that is ready.

    Attributes:
        served: what it serves.
        url, grpc_url: where, over HTTP and over gRPC.
        process: its own; its number is that of its group.
        log: what it prints.
    """

    served: Served
    url: str
    grpc_url: str
    process: Process
    log: Path

    @property
    def ended(self) -> bool:
        return has_ended(self.process)

    @property
    def last_words(self) -> str:
        """Why it ended, as far as its log says."""
        return last_words(self.log)


def read_served(path: str | Path, *, maybe_empty: bool = False) -> Served:
    """Which server a folder is for.

    Args:
        path: a bundle, which is checked as a whole, or a model repository of Triton.
        maybe_empty: also a folder without models, for a server that is sent them.

    Raises:
        ArtifactError: it is neither, or is damaged.
        UsageError: it is for a server that cannot be run here.
    """
    path = Path(path)
    if is_bundle(path):
        bundle = Bundle.load(path)
        target = bundle.facts.target
        if target not in SERVERS:
            raise UsageError(f"{path} is for {target}, which does not run here: {_why_not(target)}", _SHIP)
        return Served(SERVERS[target], path / "models", (bundle.facts.name,), bundle=True)
    if not path.is_dir():
        raise ArtifactError(
            f"{path} does not exist", "Make a bundle with rnn-export ship ARTIFACT --target NAME -o DIR"
        )
    models = [place for place in sorted(path.iterdir()) if _is_model(place)]
    if not models and not maybe_empty:
        raise ArtifactError(
            f"{path} is neither a bundle nor a model repository: no folder in it has a config.pbtxt or a version",
            "Make a bundle with rnn-export ship ARTIFACT --target triton-python -o DIR",
        )
    for model in models:
        if (backend := _backend_of(model)) in _ONNX_BACKENDS:
            raise UsageError(f"{model} is for the backend {backend}: {_why_not('triton')}", _SHIP)
    return Served("triton", path, tuple(model.name for model in models), bundle=False)


@contextmanager
def run_server(
    path: str | Path,
    *,
    http_port: int = HTTP_PORT,
    grpc_port: int = GRPC_PORT,
    explicit: bool = False,
    timeout: float = TIMEOUT,
    log: Path | None = None,
) -> Iterator[Running]:
    """The server that a folder is for, ready; it is stopped when the context ends, and its ports are free then.

    Call it from a thread that lasts: the system kills the server where that thread ends.

    Args:
        path: a bundle or a model repository; a model.py in it is code, and runs.
        http_port, grpc_port: of 127.0.0.1; 0 for any that is free.
        explicit: Triton also loads what it is sent, code too: whoever reaches the port can run it.
        timeout: seconds until it has to be ready.
        log: where what it prints is kept.

    Raises:
        UsageError: a port is taken, or the folder is for a server that cannot be run here.
        InstallationError: the server is not installed, or cannot run with this Python.
        OutputError: the log cannot be written.
        ArtifactError: the server ended or was not ready in time; it says why.
    """
    served = read_served(path, maybe_empty=explicit)
    if explicit and served.server != "triton":
        raise UsageError(f"{served.server} has no explicit mode", "Leave out --explicit")
    runtime = RUNTIMES.get(served.server)
    if interpreter_of(runtime) is None:
        raise InstallationError(f"the server {served.server} is not installed", f"Run: {how_to_install(runtime)}")
    http, grpc = _ports(http_port, grpc_port)
    with tempfile.TemporaryDirectory(prefix="rnn-export-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        said = log or scratch / "server.log"
        try:
            process = _started(served, environment_of(runtime), http, grpc, explicit, scratch, said)
        except Absent as absent:
            raise InstallationError(str(absent)) from None
        except OSError as error:
            raise OutputError(f"the server cannot be started: {error}", "Its log goes to --log FILE") from None
        except subprocess.CalledProcessError:
            raise InstallationError(
                f"the environment of {served.server} is broken", f"Run: {how_to_install(runtime)}"
            ) from None
        try:
            wait_ready(f"http://{HOST}:{http}", process, timeout, said, served.names)
            yield Running(served, f"http://{HOST}:{http}", f"grpc://{HOST}:{grpc}", process, said)
        except ServerDied as died:
            raise ArtifactError(f"{path}: {died}", "The whole log is kept with --log FILE") from None
        finally:
            stop(process)
            forget_shared_memory(http)


def _started(
    served: Served, environment: Path, http: int, grpc: int, explicit: bool, scratch: Path, log: Path
) -> Process:
    if served.server == "mlserver":
        return start_mlserver(environment, served.folder, http=http, grpc=grpc, scratch=scratch, log=log)
    repository = _mirrored(served.folder, scratch / "repository")
    return start_triton(environment, repository, http=http, grpc=grpc, explicit=explicit, scratch=scratch, log=log)


def _mirrored(source: Path, target: Path) -> Path:
    """The same folders with links to the same files: Triton's Python writes bytecode beside a model.py."""
    for place, folders, files in os.walk(source):
        here = target / Path(place).relative_to(source)
        here.mkdir()
        linked = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *linked):
            (here / name).symlink_to(Path(place, name).resolve())
        folders[:] = [name for name in folders if name not in linked and name != "__pycache__"]
    return target


def _ports(http: int, grpc: int) -> tuple[int, int]:
    """Raises UsageError where one is taken, or they are one."""
    if http == grpc != 0:
        raise UsageError(f"HTTP and gRPC cannot share port {http}", "Choose another for one of them")
    for port, option in ((http, "--http-port"), (grpc, "--grpc-port")):
        if port and not is_free(port):
            raise UsageError(f"port {port} of {HOST} is taken", f"Choose another with {option}, or 0 for any free one")
    found = free_ports(2)
    return http or found[0], grpc or found[1]


def _is_model(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return (folder / "config.pbtxt").is_file() or any(place.name.isdecimal() for place in folder.iterdir())


def _backend_of(model: Path) -> str:
    """As its configuration says, or Triton would guess from its file."""
    config = model / "config.pbtxt"
    text = config.read_text(errors="replace") if config.is_file() else ""
    said: dict[str, str] = dict(_BACKEND.findall(text))
    if name := said.get("backend") or said.get("platform"):
        return name
    return "onnxruntime" if any(model.glob("*/model.onnx")) and not any(model.glob("*/model.py")) else ""


def _why_not(target: str) -> str:
    if target in ("triton", "kserve", "seldon"):
        return "the Triton that pip installs has the python backend alone"
    return "there is no such server to install with pip"
