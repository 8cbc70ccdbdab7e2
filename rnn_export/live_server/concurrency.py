"""Many clients at once: each gets the answer to its own request, whatever the server joins."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.judgement import Judgement
from rnn_export.live_server.checks import Probed
from rnn_export.live_server.endpoint import Arrays, Replies, Step
from rnn_export.result import Result

CLIENTS = 64
ROUNDS = 4
LENGTHS = (3, 3, 3, 5, 5, 8, 8, 13)  # repeated, so that servers find requests of one shape to join


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
    alone, together = probed.endpoint.send([steps], wires), _joined(probed, [[step] for step in steps], wires)
    if alone.errors or together.errors:
        yield probed.refused(case, (*alone.errors, *together.errors))
        return
    worst = Judgement()
    for key, request in requests.items():
        for raw in (*alone.answers[key], *together.answers[key]):
            judgement = probed.judge(request, raw)
            if judgement.code and probed.judge(request, alone.answers[key][0]).code:
                yield probed.row(f"{case}, alone", judgement)  # it is another network, and nothing was mixed up
                return
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
    runs = "" if together.runs is None else f" in {together.runs} runs of the model"
    over, alike = f"over {probed.endpoint.runtime.name}", "those of the same request alone, bit for bit"
    said = f"{over} {together.answered} answers{runs}, {same} of them {alike}"
    if probed.joins and not together.joined:
        # What joining would do to the answers was not seen: a server that joins along time is right until it joins.
        worst = replace(worst, code="not-joined", diverges=True)
    yield probed.row(case, worst, said if probed.joins else f"{said}; it joins no requests")


def _joined(probed: Probed, plan: list[list[Step]], wires: Mapping[str, Arrays]) -> Replies:
    """The requests of all clients at once, again where the server could have joined some and did not."""
    for rounds in (ROUNDS, 2 * ROUNDS, 4 * ROUNDS):
        replies = probed.endpoint.send(plan, wires, rounds=rounds)
        if replies.errors or not probed.joins or replies.joined:
            break
    return replies


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
