"""A plan: many requests to a server at once, and what came back: how often, how fast, and which distinct answers.

``run`` of the runtime ``open-inference`` takes one as the array ``plan``, JSON as bytes, beside the arrays that its
steps name, and answers with the array ``report`` likewise.

{"do": "describe"}: what the server says of itself and of the model.
{"do": "requests", "clients": [[{"key": "a", "sequence": 1, "start": true, "end": false}, ...], ...], "rounds": 1,
"seconds": 0}: every list is one client, with a thread and a connection of its own; all start together. A step sends the
arrays "a:input", ... of its key. A list is gone through ``rounds`` times, or again and again until ``seconds`` have
passed. Equal numbers of ``sequence`` are one sequence, of all clients, and in every round a new one. What was not
answered is in the report's ``errors``: [key, what was said, how often, the server's own status code], which is empty
where the server did not answer, or the request could not be put into the encoding.
{"do": "load", "name": "rnn", "config": "{...}"} with arrays "file:1/model.onnx", ...; {"do": "unload", "name": "rnn"}.
"""

import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_export.errors import UsageError
from rnn_export.runtimes._open_inference import Client, ServerError

MOST_ANSWERS = 64  # distinct ones of a key that are kept; a server that mixes requests up can give a new one each time
TIMEOUT = 60.0  # seconds for each request
Connect = Callable[[float], Client]  # seconds for each request -> a connection


def as_array(document: Mapping[str, Any]) -> Any:
    """JSON as an array of bytes."""
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


def carry_out(plan: Mapping[str, Any], arrays: Mapping[str, Any], connect: Connect, model: str) -> dict[str, Any]:
    """Do what the plan says.

    Args:
        plan: see above.
        arrays: those that its steps name.
        connect: makes a client, in the thread that uses it.
        model: the name of the model that is asked.

    Returns:
        ``report`` and, of requests, ``latency`` (n,) in seconds and "KEY:NUMBER:NAME", the distinct answers. The report
        says in ``runs`` how often the model ran for all of them, null where the server does not count.

    Raises:
        ServerError: the server did not answer what is not a request of a client.
        UsageError: there is no such plan.
    """
    timeout, do = float(plan.get("timeout", TIMEOUT)), plan.get("do")
    if do == "requests":
        return _Requests(plan, arrays, connect, model, timeout).carried_out()
    client = connect(timeout)
    try:
        if do == "describe":
            return {"report": as_array(_description(client, model))}
        if do == "load":
            files = {name.removeprefix("file:"): data.tobytes() for name, data in arrays.items()}
            client.load(plan["name"], plan.get("config", ""), files)
        elif do == "unload":
            client.unload(plan["name"])
        else:
            raise UsageError(f"a plan cannot do {do!r}", "It can do describe, requests, load and unload")
        return {"report": as_array({})}
    finally:
        client.close()


def _description(client: Client, model: str) -> dict[str, Any]:
    found: dict[str, Any] = {"live": client.live(), "ready": client.ready(), "model_ready": client.model_ready(model)}
    found |= {"server": client.server(), "encoding": client.encoding}
    if found["model_ready"]:
        found |= {"metadata": client.metadata(model), "config": client.config(model)}
    return found


class _Requests:
    """The clients of one plan, and what they were answered."""

    def __init__(
        self, plan: Mapping[str, Any], arrays: Mapping[str, Any], connect: Connect, model: str, timeout: float
    ) -> None:
        self._lists: list[list[dict[str, Any]]] = plan["clients"]
        self._rounds, self._seconds = int(plan.get("rounds", 1)), float(plan.get("seconds", 0))
        self._connect, self._model, self._timeout = connect, model, timeout
        self._inputs: dict[str, dict[str, Any]] = {}
        for name, array in arrays.items():
            key, _, argument = name.rpartition(":")
            self._inputs.setdefault(key, {})[argument] = array
        used = [step.get("sequence", 0) for steps in self._lists for step in steps]
        self._stride = max(used, default=0) + 1
        self._first_id = 1 + secrets.randbits(48)  # no client's before or beside this one, and a number in JSON
        self._barrier = threading.Barrier(len(self._lists) + 1)
        self._lock = threading.Lock()
        self._sent, self._dropped = 0, 0
        self._latencies: list[float] = []
        self._errors: Counter[tuple[str, str, str]] = Counter()
        self._answers: dict[str, dict[bytes, _Answer]] = {}

    def carried_out(self) -> dict[str, Any]:
        before = self._runs()
        with ThreadPoolExecutor(max_workers=max(1, len(self._lists))) as pool:
            clients = [pool.submit(self._client, steps) for steps in self._lists]
            with suppress(threading.BrokenBarrierError):  # the client that broke it raises below
                self._barrier.wait()
            begun = time.perf_counter()
            wait(clients)
            wall = time.perf_counter() - begun
        for client in clients:
            client.result()
        counts = {key: [answer.count for answer in answers.values()] for key, answers in self._answers.items()}
        errors = [[key, said, count, status] for (key, said, status), count in self._errors.items()]
        report = {"sent": self._sent, "wall": wall, "errors": errors, "counts": counts, "dropped": self._dropped}
        after = self._runs()
        report["runs"] = after[1] - before[1] if before and after else None
        found = {"report": as_array(report), "latency": np.array(self._latencies, np.float64)}
        for key, answers in self._answers.items():
            for number, answer in enumerate(answers.values()):
                found |= {f"{key}:{number}:{name}": array for name, array in answer.outputs.items()}
        return found

    def _runs(self) -> tuple[int, int] | None:
        """As the server counts them."""
        client = self._connect(self._timeout)
        try:
            return client.statistics(self._model)
        except ServerError:  # what is wrong with it the requests say
            return None
        finally:
            client.close()

    def _client(self, steps: list[dict[str, Any]]) -> None:
        """One client, in a thread of its own: its list, round after round."""
        try:
            client = self._connect(self._timeout)
            with suppress(ServerError):  # every request will say it again
                client.metadata(self._model)  # asked before the clock runs
        except BaseException:
            self._barrier.abort()
            raise
        try:
            with suppress(threading.BrokenBarrierError):  # another client raises why
                self._barrier.wait()
                self._go_through(client, steps)
        finally:
            client.close()

    def _go_through(self, client: Client, steps: list[dict[str, Any]]) -> None:
        deadline, done = time.perf_counter() + self._seconds, 0
        whole_rounds = any(step.get("sequence") for step in steps)  # a sequence that was begun is ended
        while steps and (time.perf_counter() < deadline if self._seconds else done < self._rounds):
            for step in steps:
                self._request(client, step, done)
                if self._seconds and not whole_rounds and time.perf_counter() >= deadline:
                    return
            done += 1

    def _request(self, client: Client, step: Mapping[str, Any], done: int) -> None:
        key, number = step["key"], step.get("sequence", 0)
        sequence = self._first_id + done * self._stride + number if number else 0
        start, end = bool(step.get("start")), bool(step.get("end"))
        asked = time.perf_counter()
        try:
            outputs = client.infer(self._model, self._inputs.get(key, {}), sequence, start=start, end=end)
        except ServerError as error:
            with self._lock:
                self._sent += 1
                self._errors[key, str(error), error.status] += 1
            return
        took, digest = time.perf_counter() - asked, _digest(outputs)
        with self._lock:
            self._sent += 1
            self._latencies.append(took)
            answers = self._answers.setdefault(key, {})
            if digest in answers:
                answers[digest].count += 1
            elif len(answers) < MOST_ANSWERS:
                answers[digest] = _Answer(outputs)
            else:
                self._dropped += 1


@dataclass
class _Answer:
    outputs: Mapping[str, Any]
    count: int = 1


def _digest(outputs: Mapping[str, Any]) -> bytes:
    """Of all bytes, types and shapes: equal where the answers are, NaN and the sign of zero too."""
    digest = hashlib.sha256()
    for name in sorted(outputs):
        array = np.ascontiguousarray(outputs[name])
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.digest()
