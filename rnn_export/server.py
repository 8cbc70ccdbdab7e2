"""A real server on this machine, with a bundle or a model repository: started, waited for, and stopped."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rnn_export.environments import environment_of, how_to_install, interpreter_of
from rnn_export.errors import InstallationError, OutputError, ServingError, UsageError
from rnn_export.runtimes import RUNTIMES, Absent
from rnn_export.runtimes._held_folders import dead_folders, held_folder, new_name
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
from rnn_export.runtimes._triton import held_regions, new_regions, start_triton
from rnn_export.servable import Servable, read_servable

HTTP_PORT, GRPC_PORT, TIMEOUT = 8000, 8001, 60.0
BETWEEN_LOOKS = 0.2  # seconds, at whether it still runs
_SCRATCH = "rnn-export-serve-"
_KEEP_LOG = "The whole log is kept with --log FILE"


@dataclass(frozen=True)
class Running:
    """A server that is ready.

    Attributes:
        served: what it serves.
        url, grpc_url: where, over HTTP and over gRPC.
        process: its own; its number is that of its group.
        log: what it prints.
    """

    served: Servable
    url: str
    grpc_url: str
    process: Process
    log: Path

    @property
    def ended(self) -> bool:
        return has_ended(self.process)

    def wait(self) -> NoReturn:
        """Until it ends by itself.

        Raises:
            ServingError: it ended; as far as its log says, why.
        """
        while not self.ended:
            time.sleep(BETWEEN_LOOKS)
        raise ServingError(f"the server ended: {last_words(self.log)}", _KEEP_LOG)


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
        ServingError: the server cannot be started, ended, or was not ready in time; it says why.
    """
    served = read_servable(path, maybe_empty=explicit)
    if explicit and served.server != "triton":
        raise UsageError(f"{served.server} has no explicit mode", "Leave out --explicit")
    runtime = RUNTIMES.get(served.server)
    if interpreter_of(runtime) is None:
        raise InstallationError(f"the server {served.server} is not installed", f"Run: {how_to_install(runtime)}")
    http, grpc = _ports(http_port, grpc_port)
    with _scratch() as scratch, ExitStack() as loading:
        said = _log(log or scratch / "server.log")
        try:
            process = _started(served, environment_of(runtime), http, grpc, explicit, scratch, said, loading)
        except Absent as absent:
            raise InstallationError(str(absent)) from None
        except OSError as error:
            raise ServingError(
                f"{served.server} cannot be started: {error}", f"Run: {how_to_install(runtime)}"
            ) from None
        except subprocess.CalledProcessError:
            raise InstallationError(
                f"the environment of {served.server} is broken", f"Run: {how_to_install(runtime)}"
            ) from None
        try:
            wait_ready(f"http://{HOST}:{http}", process, timeout, said, served.names)
            if not explicit:  # nothing is loaded any more
                loading.close()
            yield Running(served, f"http://{HOST}:{http}", f"grpc://{HOST}:{grpc}", process, said)
        except ServerDied as died:
            raise ServingError(f"{path}: {died}", _KEEP_LOG) from None
        finally:
            stop(process)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one server; those are removed of servers that nobody could tidy up after, as after kill -9."""
    temporary = Path(tempfile.gettempdir())
    for dead in dead_folders(temporary, _SCRATCH):
        shutil.rmtree(dead, ignore_errors=True)
    with held_folder(temporary / new_name(_SCRATCH)) as scratch:
        yield scratch


def _log(log: Path) -> Path:
    """Raises OutputError where it cannot be written."""
    try:
        log.write_bytes(b"")
    except OSError as error:
        raise OutputError(f"{log} cannot be written: {error.strerror}", "Choose another --log FILE") from None
    return log


def _started(
    served: Servable,
    environment: Path,
    http: int,
    grpc: int,
    explicit: bool,
    scratch: Path,
    log: Path,
    loading: ExitStack,
) -> Process:
    """The server's process; ``loading`` holds what it needs while it loads models."""
    if served.server == "mlserver":
        return start_mlserver(environment, served.folder, http=http, grpc=grpc, scratch=scratch, log=log)
    repository, regions = _mirrored(served.folder, scratch / "repository"), new_regions()
    loading.enter_context(held_regions(regions))
    return start_triton(
        environment,
        repository,
        http=http,
        grpc=grpc,
        regions=regions,
        explicit=explicit,
        scratch=scratch,
        log=log,
    )


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
