"""A server that holds the states: sequences side by side do not touch each other, and chunks are the whole pass."""

from collections.abc import Iterator, Sequence

import numpy as np

from rnn_export.judgement import Judgement
from rnn_export.live_server.checks import Probed
from rnn_export.live_server.endpoint import Replies, Step
from rnn_export.live_server.requests import Request
from rnn_export.result import Result

INTERLEAVED, CONCURRENT = 8, 16
CHUNKS = ((1, 2, 4, 5), (12,), (5, 4, 2, 1), (1,) * 12, (6, 6))  # of twelve steps, in turn


def check_sequences(probed: Probed) -> Iterator[Result]:
    """One client that goes from sequence to sequence, many clients with one each, and what has no beginning."""
    yield _row(probed, f"sequences: {INTERLEAVED} interleaved, chunked = whole", INTERLEAVED, interleaved=True)
    yield _row(probed, f"sequences: {CONCURRENT} clients, chunked = whole", CONCURRENT, interleaved=False)
    yield from _without_beginning(probed)


def _row(probed: Probed, case: str, count: int, *, interleaved: bool) -> Result:
    wholes = [probed.request(sum(CHUNKS[0]), 1, 19, number) for number in range(count)]
    requests, plans = {}, []
    for number, whole in enumerate(wholes):
        sizes = CHUNKS[number % len(CHUNKS)]
        stops = np.cumsum(sizes)
        steps = []
        for part, (stop, size) in enumerate(zip(stops, sizes, strict=True)):
            key = f"{number}.{part}"
            lengths = None if whole.lengths is None else np.full_like(whole.lengths, size)
            requests[key] = Request(whole.x[stop - size : stop], whole.h_0, lengths)
            steps.append(Step(key, number + 1, part == 0, part == len(sizes) - 1))
        plans.append(steps)
    clients = [_in_turn(plans)] if interleaved else plans
    replies = probed.endpoint.send(clients, {key: request.wire(probed.subject) for key, request in requests.items()})
    if replies.errors:
        return probed.refused(case, replies.errors)
    worst = Judgement()
    for number, (whole, steps) in enumerate(zip(wholes, plans, strict=True)):
        judgement = probed.judge(_unbroken(whole), _joined(replies, steps))
        if judgement.code:
            detail = f"sequence {number} in chunks of {CHUNKS[number % len(CHUNKS)]} is not the whole pass"
            return probed.row(case, Judgement("sequence", f"{detail} ({judgement.code}: {judgement.detail})"))
        worst = max(worst, judgement, key=lambda one: one.residual or 0.0)
    return probed.row(case, worst)


def _unbroken(whole: Request) -> Request:
    """In chunks every row is as long as its chunk, and so is the whole."""
    return whole if whole.lengths is None else Request(whole.x, whole.h_0, np.full_like(whole.lengths, len(whole.x)))


def _in_turn(plans: Sequence[Sequence[Step]]) -> list[Step]:
    """A step of each sequence, again and again, until all are at their end."""
    longest = max(map(len, plans))
    return [steps[turn] for turn in range(longest) for steps in plans if turn < len(steps)]


def _joined(replies: Replies, steps: Sequence[Step]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """The answers to the chunks as that to the whole: sequences joined along time, states from the last."""
    parts = [replies.answers[step.key][0] for step in steps]
    joined = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0] if name != "h_n"}
    return {**joined, "h_n": parts[-1]["h_n"]} if "h_n" in parts[-1] else joined


def _without_beginning(probed: Probed) -> Iterator[Result]:
    """A request of a sequence that nobody began has to be refused: there is no state that it could follow."""
    request = probed.request(3, 1, 23)
    step = Step("lost", 999, start=False, end=True)
    replies = probed.endpoint.send([[step]], {"lost": request.wire(probed.subject)})
    yield probed.turned_down("bad request: a sequence without START", replies, "a sequence without START")
