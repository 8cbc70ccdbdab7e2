"""A load run: throughput and latency of a live server, and whether every single answer was the network's."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.judgement import Judgement
from rnn_export.live_server.checks import Probed
from rnn_export.live_server.concurrency import LENGTHS
from rnn_export.live_server.endpoint import Replies, Step
from rnn_export.live_server.requests import Request
from rnn_export.record import Load
from rnn_export.result import Result

POOL = LENGTHS * 3  # lengths of the requests that the clients take in turn, each from another place
PARTS = (1, 4, 2)  # steps of the requests of one sequence, where the server holds the state


class Plan(NamedTuple):
    """What the clients do.

    Attributes:
        clients: the steps of each.
        requests: by key.
        before: of a later part of a sequence, the key of the part that it follows.
    """

    clients: list[list[Step]]
    requests: dict[str, Request]
    before: dict[str, str]


def run_load(probed: Probed, seconds: float, clients: int, *, right_alone: bool) -> tuple[Result, Load | None]:
    """So many clients for so long; the row of the report, and the numbers, None where nothing was answered.

    Args:
        probed: the server.
        seconds: for how long.
        clients: at once.
        right_alone: whether the server answered single requests rightly; otherwise wrong answers are not mixed up.
    """
    case = f"load: {clients} clients, {seconds:g} s"
    plan = _sequences(probed, clients) if probed.holds_state else _requests(probed, clients)
    wires = {key: request.wire(probed.subject) for key, request in plan.requests.items()}
    replies = probed.endpoint.send(plan.clients, wires, seconds=seconds)
    if not len(replies.latency):
        return probed.refused(case, replies.errors), None
    mixed, first, worst = 0, Judgement(), 0.0
    for key, answers in replies.answers.items():
        for raw, count in zip(answers, replies.counts[key], strict=True):
            judgement = _judged(probed, plan, key, raw, replies)
            worst = max(worst, judgement.residual or 0.0)
            if judgement.code:
                mixed += count
                first = first if first.code else judgement
    median, tail = np.percentile(replies.latency, [50, 99]) * 1e3
    load = Load(
        clients,
        seconds,
        replies.answered,
        sum(one.times for one in replies.errors),
        mixed,
        replies.answered / replies.wall,
        float(median),
        float(tail),
        replies.answered / replies.runs if replies.runs else None,
    )
    judgement = Judgement(residual=worst or None)
    if replies.dropped:
        judgement = Judgement("not-judged", f"{replies.dropped} answers were too many to be kept, and are not judged")
    if load.refused:
        judgement = Judgement("refused", replies.errors[0].said)
    if mixed:
        code = "mixed-up" if right_alone else first.code
        judgement = Judgement(code, f"{first.code}: {first.detail}", first.residual)
    return probed.row(case, judgement, f"over {probed.endpoint.runtime.name} {_words(load)}"), load


def _words(load: Load) -> str:
    joined = "" if load.requests_per_run is None else f", {load.requests_per_run:.1f} requests per run"
    return (
        f"{load.requests_per_second:,.0f} requests/s, p50 {load.p50_ms:.1f} ms, p99 {load.p99_ms:.1f} ms, "
        f"{load.answered:,} answers, {load.mixed_up} mixed up, {load.refused} refused{joined}"
    )


def _requests(probed: Probed, clients: int) -> Plan:
    """Requests of several lengths, one row each."""
    pool = {str(number): probed.request(T, 1, 13, number) for number, T in enumerate(POOL)}
    keys = list(pool)
    starts = [client % len(keys) for client in range(clients)]
    return Plan([[Step(key) for key in keys[start:] + keys[:start]] for start in starts], pool, {})


def _sequences(probed: Probed, clients: int) -> Plan:
    """A sequence for each client, in parts, again and again."""
    plan = Plan([], {}, {})
    for client in range(clients):
        keys = [f"{client}.{part}" for part in range(len(PARTS))]
        last = len(PARTS) - 1
        plan.clients.append([Step(key, client + 1, part == 0, part == last) for part, key in enumerate(keys)])
        for key, (part, size) in zip(keys, enumerate(PARTS), strict=True):
            plan.requests[key] = probed.request(size, 1, 17, client, part)
        plan.before.update(zip(keys[1:], keys, strict=False))
    return plan


def _judged(probed: Probed, plan: Plan, key: str, raw: Mapping[str, NDArray[Any]], replies: Replies) -> Judgement:
    """An answer within a sequence has to follow from one of the states in which its predecessor ended."""
    request, before = plan.requests[key], plan.before.get(key)
    if before is None:
        return probed.judge(request, raw)
    states = [answer["h_n"].swapaxes(0, 1) for answer in replies.answers.get(before, ()) if "h_n" in answer]
    found = [probed.judge(request, raw, state) for state in states]
    unknown = Judgement("mixed-up", f"request {before} was refused, and the one after it was answered")
    return min(found, key=lambda one: (bool(one.code), one.residual or 0.0), default=unknown)
