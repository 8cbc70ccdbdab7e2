"""``probe()``: one model on one live server, at every URL and in every encoding, as one report."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rnn_export.artifact import Artifact, digest_of
from rnn_export.bundle import is_bundle
from rnn_export.cells import Cell, run_here
from rnn_export.child import THREADS, Failure
from rnn_export.errors import SourceError, UsageError
from rnn_export.live_server.checks import Probed, check_bad_requests, check_golden, check_metadata, check_ready
from rnn_export.live_server.concurrency import CLIENTS, check_concurrent, check_load
from rnn_export.live_server.endpoint import Description, Endpoint, encodings_of, server_runtime
from rnn_export.live_server.held import Held, held_of_artifact, held_of_bundle
from rnn_export.live_server.sequences import check_sequences
from rnn_export.live_server.yardstick import Yardstick
from rnn_export.machine import this_environment, utc_now
from rnn_export.record import Record
from rnn_export.report import Report
from rnn_export.result import Result
from rnn_export.runtimes import Runtime
from rnn_export.server_address import ServerAddress
from rnn_export.subject import Subject
from rnn_export.verification import Progress, verify_runtime

TIMEOUT = 60.0
LOAD_SECONDS = 5.0
BETWEEN_TRIES = 0.5  # seconds
STATES = {"none": "stateless", "client": "the client holds the state", "server": "the server holds the state"}


@dataclass(frozen=True)
class How:
    """How far a probe goes: seconds for a request and of the load, clients at once, and torch's errors by case."""

    timeout: float
    seconds: float
    clients: int
    torch_errors: Mapping[str, float]
    progress: Progress | None


def probe(
    urls: Sequence[str],
    model: str,
    folder: str | Path,
    *,
    seconds: float = LOAD_SECONDS,
    clients: int = CLIENTS,
    timeout: float = TIMEOUT,
    wait: float = 0.0,
    progress: Progress | None = None,
) -> Report:
    """Prove that a live server computes the network.

    Args:
        urls: of the same server: http://HOST:PORT, grpc://HOST:PORT or both.
        model: its name on the server.
        folder: the bundle that it serves, or the artifact that this was made from.
        seconds: of the load run at every endpoint; 0 for none.
        clients: at once.
        timeout: seconds for a request.
        wait: seconds that a server may still take to be ready.
        progress: told after every case.

    Raises:
        RnnExportError: the folder cannot be read, a URL makes no sense, or the client is not installed.
    """
    folder = Path(folder)
    if not urls:
        raise UsageError("no server is named", "Give a URL, such as http://127.0.0.1:8000")
    addresses = [ServerAddress(url, model) for url in urls]
    _wait_for(addresses[0], wait, timeout)
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        if is_bundle(folder):
            held = held_of_bundle(folder, Path(scratch))
        else:
            Artifact.load(folder)  # says so where it is none, before a server is asked
            held = held_of_artifact(folder, Path(scratch), _description(addresses[0], timeout))
        subject, state = held.subject, held.interface.state
        rows: list[Result] = list(subject.findings)
        names: list[str] = []
        how = How(timeout, seconds, clients, _torch_errors(subject, timeout), progress)
        with Yardstick(subject, timeout) as yardstick:
            for address in addresses:
                for runtime in _endpoints(replace(address, holds_state=state == "server"), timeout):
                    names.append(runtime.name)
                    rows += _rows(runtime, held, yardstick, how)
    return Report(
        f"{model} at {', '.join(urls)}",
        subject.form,
        f"{subject.weights.spec}   {STATES[state]}   {held.origin}",
        tuple(rows),
        frozenset(names),
        frozenset(names),
        named=True,
        runtimes=tuple(Record(name) for name in names),
        digest=digest_of(folder),
        environment=this_environment(THREADS),
        created=utc_now(),
    )


def _torch_errors(subject: Subject, timeout: float) -> dict[str, float]:
    """torch's own errors, for cases in which the layers below the last cannot be seen on a server."""
    if subject.weights.spec.num_layers == 1:
        return {}
    ((reference),) = run_here([Cell(subject, "torch", timeout, {})])
    return {row.case: row.max_abs for row in reference.rows if row.max_abs is not None}


def _wait_for(address: ServerAddress, wait: float, timeout: float) -> None:
    """Until the server and the model are ready, or for so long; who asks afterwards finds out which."""
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        try:
            _description(address, timeout)
        except SourceError:
            time.sleep(min(BETWEEN_TRIES, max(0.0, deadline - time.monotonic())))
        else:
            return


def _description(address: ServerAddress, timeout: float) -> Description:
    """What the server says.

    Raises:
        SourceError: it does not answer, or does not have the model.
    """
    try:
        with Endpoint(server_runtime(address), timeout) as endpoint:
            endpoint.connect()
            return endpoint.describe()
    except Failure as failure:
        raise SourceError(f"{address.url} does not serve {address.model}: {failure.detail}", "Start it first") from None


def _endpoints(address: ServerAddress, timeout: float) -> list[Runtime]:
    """The ways in which the server can be asked at a URL, as it says itself; one where it does not answer."""
    try:
        extensions = _description(address, timeout).server.get("extensions") or ()
    except SourceError:
        extensions = ()  # its row will say so
    encodings = {"grpc": "auto", "http-json": "json", "http-binary": "binary"}
    return [
        server_runtime(replace(address, encoding=encodings[name]), name)
        for name in encodings_of(address.url, extensions)
    ]


def _rows(runtime: Runtime, held: Held, yardstick: Yardstick, how: How) -> list[Result]:
    """All that is asked at one endpoint; what makes the rest meaningless ends it."""
    rows: list[Result] = []
    try:
        with Endpoint(runtime, how.timeout) as endpoint:
            endpoint.connect()
            said = endpoint.describe()
            probed = Probed(endpoint, held.subject, held.interface, held.start, said, yardstick)
            rows += [*check_ready(probed), *check_metadata(probed)]
            if not all(row.passed for row in rows):
                return rows
            rows += check_golden(probed, held.golden)
            found = verify_runtime(
                held.subject, runtime, timeout=how.timeout, torch_errors=how.torch_errors, progress=how.progress
            ).rows
            rows += [replace(row, version=said.version) for row in found]
            rows += check_bad_requests(probed)
            rows += check_concurrent(probed, how.clients)
            if probed.holds_state:
                rows += check_sequences(probed)
            if how.seconds:
                rows += check_load(probed, how.seconds, how.clients)
    except Failure as failure:
        code = failure.status.value.lower()
        rows.append(Result(runtime.name, "", "", failure.stage, failure.status, code, detail=failure.detail))
    return rows
