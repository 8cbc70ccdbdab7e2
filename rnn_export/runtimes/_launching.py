"""What the rows that start an inference server share: ports, waiting until it is ready, and stopping it.

Every server listens on this machine's own address alone, and ends with the process that started it.
"""

import ctypes
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

HOST = "127.0.0.1"
FAREWELL = 30.0  # seconds from SIGTERM to SIGKILL: Triton itself waits as long for requests under way
BETWEEN_LOOKS = 0.05  # seconds
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_MIXING = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD")
_REASONS = (  # how a log says why, the clearest first
    re.compile(r"^E\d{4} [\d:.]+ \d+ \S+\] (.*)", re.MULTILINE),  # Triton
    re.compile(r"^Traceback .*:\n(?:[ \t].*\n)*(\S.*)", re.MULTILINE),  # MLServer: the line after a traceback
    re.compile(r"^(error:.*)", re.MULTILINE),  # Triton, where it cannot even begin
    re.compile(r"^(.*[^-+|\s].*)$", re.MULTILINE),  # its last line
)

Process = subprocess.Popen[bytes]


class ServerDied(Exception):  # noqa: N818
    """The server ended or was not ready in time; the message has its own words."""


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a connection just closed is none
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def launched(
    line: list[str],
    log: Path,
    environ: Mapping[str, str],
    *,
    leads: bool,
    cwd: Path,
    without: tuple[str, ...] = (),
) -> Process:
    """Start a server; what it prints goes to the log.

    It ends where the thread that called this ends, however it ends: call it from one that lasts.

    Args:
        line: the command.
        log: a file.
        environ: variables that it gets beside ours.
        leads: it leads a process group of its own, for ``stop``; otherwise it is in ours and killed with it.
        cwd: where it runs, a folder that nobody else fills: models may import from it.
        without: how variables begin that it does not get.
    """
    mixing = (*_MIXING, *without)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(mixing)}
    system = ctypes.CDLL(None)  # before the fork: after it nothing may be loaded

    def die_with_parent() -> None:
        # Asked and not killed: what a server has started, such as a stub of Triton, may outlive its sudden death
        system.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with log.open("wb") as said:
        return subprocess.Popen(
            line,
            env={**inherited, **environ},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=leads,
            cwd=cwd,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )


def wait_ready(url: str, server: Process, seconds: float, log: Path, models: Iterable[str] = ()) -> None:
    """Return once the server says that it is ready, and each of the models.

    Args:
        url: http://HOST:PORT.
        server: its process.
        seconds: how long to wait.
        log: what it prints.
        models: names; MLServer calls itself ready before they are loaded.

    Raises:
        ServerDied: it ended, or that time is over.
    """
    deadline = time.monotonic() + seconds
    waiting = ["/v2/health/ready", *(f"/v2/models/{name}/ready" for name in models)]
    while waiting:
        if _says_yes(url, waiting[0]):
            del waiting[0]
        elif has_ended(server):
            raise ServerDied(f"the server ended before it was ready: {last_words(log)}")
        elif time.monotonic() > deadline:
            raise ServerDied(f"the server is not ready after {seconds:g} s: {last_words(log)}")
        else:
            time.sleep(BETWEEN_LOOKS)


def has_ended(server: Process) -> bool:
    """Whether the process is over; it stays unreaped, so that its group can still be ended by its number."""
    if server.returncode is not None:
        return True
    return os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def stop(server: Process, seconds: float = FAREWELL) -> None:
    """End the server and all that it started: asked first, and made to after ``seconds``. Its ports are free then."""
    if server.returncode is not None:
        return
    try:
        if not has_ended(server):
            server.terminate()
        deadline = time.monotonic() + seconds
        while not has_ended(server) and time.monotonic() < deadline:
            time.sleep(BETWEEN_LOOKS)
    finally:  # also where waiting was interrupted
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def last_words(log: Path, most: int = 600) -> str:
    """Why a server ended, on one line, as far as its log says."""
    text = log.read_text(errors="replace")
    for reason in _REASONS:
        if found := reason.findall(text):
            said = str(found[-1]).strip('"').replace("\\n", " ")
            return " ".join(said.split())[:most]
    return "it said nothing"


def _says_yes(url: str, path: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=1.0)  # no proxy of the environment
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
