"""Many clients at once: each gets the answer to its own request, whatever the server joins, and under load too."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.judgement import Judgement
from rnn_export.live_server.checks import Probed
from rnn_export.live_server.endpoint import Replies, Step
from rnn_export.live_server.requests import Request
from rnn_export.result import Result, Stage, Status

CLIENTS = 64
ROUNDS = 4
LENGTHS = (3, 3, 3, 5, 5, 8, 8, 13)  # repeated, so that servers find requests of one shape to join
CHUNKS = (1, 4, 2)  # of the sequences under load


def check_concurrent(probed: Probed, clients: int = CLIENTS) -> Iterator[Result]:
    """So many clients at once, each with a request of its own: every answer is judged, and compared with that alone."""
    case = f"concurrent: {clients} clients"
    requests = {
        str(client): probed.request(LENGTHS[client % len(LENGTHS)], 1 + client % 2, 11, client)
        for client in range(clients)
    }
    wires = {key: request.wire(probed.subject) for key, request in requests.items()}
    held = probed.holds_state
    steps = [Step(key, (number + 1) * held, held, held) for number, key in enumerate(wires)]
    alone = probed.endpoint.send([steps], wires)
    together = probed.endpoint.send([[step] for step in steps], wires, rounds=ROUNDS)
    if alone.errors or together.errors:
        _, said, count = (*alone.errors, *together.errors)[0]
        name, version = probed.endpoint.runtime.name, probed.description.version
        detail = f"{count} requests were refused: {said}"
        yield Result(name, version, case, Stage.RUN, Status.REFUSED, "refused", detail=detail)
        return
    worst = Judgement()
    for key, request in requests.items():
        for raw in (*alone.answers[key], *together.answers[key]):
            judgement = probed.judge(request, raw)
            if judgement.code:
                yield probed.row(case, _mixed(judgement, raw, together, key))
                return
            worst = max(worst, judgement, key=lambda one: one.residual or 0.0)
    same = sum(
        count
        for key, counts in together.counts.items()
        for count, raw in zip(counts, together.answers[key], strict=True)
        if _same(raw, alone.answers[key][0])
    )
    sent = sum(map(sum, together.counts.values()))
    runs = "" if together.runs is None else f" in {together.runs} runs of the model"
    over, alike = f"over {probed.endpoint.runtime.name}", "those of the same request alone, bit for bit"
    yield probed.row(case, worst, f"{over} {sent} answers{runs}, {same} of them {alike}")


def _mixed(judgement: Judgement, raw: Mapping[str, NDArray[Any]], together: Replies, key: str) -> Judgement:
    """Says whose answer it is, where it is another client's."""
    others = [
        other for other, answers in together.answers.items() if other != key for answer in answers if _same(raw, answer)
    ]
    whose = (
        f"it is the answer to the request of client {others[0]}"
        if others
        else "requests were joined along another axis"
    )
    detail = f"an answer is not that of client {key}'s own request: {whose} ({judgement.code}: {judgement.detail})"
    return Judgement("mixed-up", detail, judgement.residual, max_abs=judgement.max_abs)


def _same(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def check_load(probed: Probed, seconds: float, clients: int = CLIENTS) -> Iterator[Result]:
    """As many clients for so long: throughput, latency, and whether every single answer was the network's."""
    case = f"load: {clients} clients, {seconds:g} s"
    plan, requests, before = _load_plan(probed, clients)
    wires = {key: request.wire(probed.subject) for key, request in requests.items()}
    replies = probed.endpoint.send(plan, wires, seconds=seconds)
    mixed, first, worst = 0, Judgement(), 0.0
    for key, answers in replies.answers.items():
        for raw, count in zip(answers, replies.counts[key], strict=True):
            judgement = _judged_under_load(probed, requests[key], raw, replies, before.get(key))
            worst = max(worst, judgement.residual or 0.0)
            if judgement.code:
                mixed += count
                first = first if first.code else judgement
    refused = sum(count for _, _, count in replies.errors)
    answered = len(replies.latency)
    if not answered:
        name, version = probed.endpoint.runtime.name, probed.description.version
        said = replies.errors[0][1] if replies.errors else "nothing was answered"
        yield Result(name, version, case, Stage.RUN, Status.REFUSED, "refused", detail=said)
        return
    median, tail = np.percentile(replies.latency, [50, 99]) * 1e3
    numbers = (
        f"over {probed.endpoint.runtime.name} {answered / replies.wall:,.0f} requests/s, p50 {median:.1f} ms, "
        f"p99 {tail:.1f} ms, {answered:,} answers, {mixed} mixed up, {refused} refused"
    )
    if replies.runs:
        numbers += f", {answered / replies.runs:.1f} requests per run"
    judgement = Judgement(residual=worst or None)
    if replies.dropped:
        judgement = Judgement("not-judged", f"{replies.dropped} answers were too many to be kept, and are not judged")
    if refused:
        judgement = Judgement("refused", replies.errors[0][1])
    if mixed:
        judgement = Judgement("mixed-up", f"{first.code}: {first.detail}", first.residual)
    yield probed.row(case, judgement, numbers)


def _load_plan(probed: Probed, clients: int) -> tuple[list[list[Step]], dict[str, Request], dict[str, str]]:
    """The clients' steps, the requests by key, and which request a later part of a sequence follows."""
    if not probed.holds_state:
        pool = {str(number): probed.request(T, 1, 13, number) for number, T in enumerate(LENGTHS * 3)}
        keys = list(pool)
        return (
            [
                [Step(key) for key in keys[client % len(keys) :] + keys[: client % len(keys)]]
                for client in range(clients)
            ],
            pool,
            {},
        )
    plan, requests, before = [], {}, {}
    for client in range(clients):
        steps = []
        for part, size in enumerate(CHUNKS):
            key = f"{client}.{part}"
            requests[key] = probed.request(size, 1, 17, client, part)
            steps.append(Step(key, client + 1, part == 0, part == len(CHUNKS) - 1))
            if part:
                before[key] = f"{client}.{part - 1}"
        plan.append(steps)
    return plan, requests, before


def _judged_under_load(
    probed: Probed, request: Request, raw: Mapping[str, NDArray[Any]], replies: Replies, before: str | None
) -> Judgement:
    """An answer within a sequence has to follow from one of the states in which its predecessor ended."""
    if before is None:
        return probed.judge(request, raw)
    states = [answer["h_n"].swapaxes(0, 1) for answer in replies.answers.get(before, ()) if "h_n" in answer]
    found = [probed.judge(request, raw, state) for state in states]
    unknown = Judgement("mixed-up", f"request {before} was refused, and the one after it was answered")
    return min(found, key=lambda one: (bool(one.code), one.residual or 0.0), default=unknown)
