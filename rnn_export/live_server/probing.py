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
from rnn_export.errors import ServingError, UsageError
from rnn_export.live_server.checks import Probed, check_bad_requests, check_golden, check_metadata, check_ready
from rnn_export.live_server.concurrency import CLIENTS, check_concurrent
from rnn_export.live_server.endpoint import Description, Endpoint, encodings_of, server_runtime
from rnn_export.live_server.held import Held, held_of_artifact, held_of_bundle
from rnn_export.live_server.load import run_load
from rnn_export.live_server.sequences import check_sequences
from rnn_export.live_server.yardstick import Yardstick
from rnn_export.machine import this_environment, utc_now
from rnn_export.record import Record
from rnn_export.report import Report
from rnn_export.result import Result, Status
from rnn_export.runtimes import Runtime
from rnn_export.server_address import ServerAddress
from rnn_export.serving import STATES
from rnn_export.subject import Subject
from rnn_export.verification import Progress, verify_runtime

TIMEOUT = 60.0
LOAD_SECONDS = 5.0
BETWEEN_TRIES = 0.5  # seconds


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
    if len({url.partition("://")[0] for url in urls}) < len(urls):
        raise UsageError("two URLs of one kind would be two servers", "Probe each server on its own")
    _wait_for(addresses[0], wait, timeout)
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        if is_bundle(folder):
            held = held_of_bundle(folder, Path(scratch))
        else:
            Artifact.load(folder)  # says so where it is none, before a server is asked
            held = held_of_artifact(folder, Path(scratch), _description(addresses[0], timeout))
        subject, state = held.subject, held.interface.state
        rows: list[Result] = list(subject.findings)
        records: list[Record] = []
        how = How(timeout, seconds, clients, _torch_errors(subject, timeout), progress)
        with Yardstick(subject, timeout) as yardstick:
            for address in addresses:
                for runtime in _endpoints(replace(address, holds_state=state == "server"), held, timeout):
                    found, record = _rows(runtime, held, yardstick, how)
                    rows += found
                    records.append(record)
    names = frozenset(record.name for record in records)
    return Report(
        f"{model} at {', '.join(urls)}",
        subject.form,
        f"{subject.weights.spec}   {STATES[state]}   {held.origin}",
        tuple(rows),
        names,
        names,
        named=True,
        runtimes=tuple(records),
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
        except ServingError:
            time.sleep(min(BETWEEN_TRIES, max(0.0, deadline - time.monotonic())))
        else:
            return


def _description(address: ServerAddress, timeout: float) -> Description:
    """What the server says.

    Raises:
        ServingError: it does not answer, or does not have the model.
    """
    try:
        with Endpoint(server_runtime(address), timeout) as endpoint:
            endpoint.connect()
            return endpoint.describe()
    except Failure as failure:
        raise ServingError(
            f"{address.url} does not serve {address.model}: {failure.detail}", "Start it first"
        ) from None


def _endpoints(address: ServerAddress, held: Held, timeout: float) -> list[Runtime]:
    """The ways in which the server can be asked at a URL, as it says itself; one where it does not answer."""
    try:
        extensions = _description(address, timeout).server.get("extensions") or ()
    except ServingError:
        extensions = ()  # its row will say so
    encodings = {"grpc": "auto", "http-json": "json", "http-binary": "binary"}
    return [
        server_runtime(replace(address, encoding=encodings[name]), name)
        for name in encodings_of(address.url, extensions, held.interface.inputs[0].datatype)
    ]


def _rows(runtime: Runtime, held: Held, yardstick: Yardstick, how: How) -> tuple[list[Result], Record]:
    """All that is asked at one endpoint; what makes the rest meaningless ends it."""
    rows: list[Result] = []
    record = Record(runtime.name)
    try:
        with Endpoint(runtime, how.timeout) as endpoint:
            endpoint.connect()
            said = endpoint.describe()
            record = replace(record, version=said.version)
            probed = Probed(endpoint, held.subject, held.interface, held.start, said, yardstick, held.max_batch)
            rows += [*check_ready(probed), *check_metadata(probed)]
            if not all(row.passed for row in rows):
                return rows, record
            rows += check_golden(probed, held.golden)
            found = verify_runtime(
                held.subject, runtime, timeout=how.timeout, torch_errors=how.torch_errors, progress=how.progress
            )
            rows += [replace(row, version=said.version) for row in found.rows]
            record = replace(record, series=found.record.series)
            rows += check_bad_requests(probed)
            rows += check_concurrent(probed, how.clients)
            if probed.holds_state:
                rows += check_sequences(probed)
            if how.seconds:
                right = not any(row.status is Status.MISMATCH and row.code != "mixed-up" for row in rows)
                row, load = run_load(probed, how.seconds, how.clients, right_alone=right)
                rows.append(row)
                record = replace(record, load=load)
    except Failure as failure:
        # To be refused here is not to be answered: every right request was asked by then, or none could be.
        status = Status.CRASHED if failure.status is Status.REFUSED else failure.status
        code = "not-ready" if failure.status is Status.REFUSED else status.value.lower()
        rows.append(Result(runtime.name, record.version, "", failure.stage, status, code, detail=failure.detail))
    return rows, record
