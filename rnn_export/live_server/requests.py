"""Requests whose answers are judged: inputs of a network, and what of an answer is not the network's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.element_types import rounded
from rnn_export.judgement import RATIO_GATE, Judgement, judge, ratio_to_torch, shape_problem
from rnn_export.live_server.endpoint import Arrays
from rnn_export.oracle import run_oracle
from rnn_export.session import answers_of, feed_of
from rnn_export.subject import Subject

Array = NDArray[Any]


@dataclass(frozen=True)
class Request:
    """Inputs, time-major: x (T, B, I), h_0 (L*D, B, H), lengths (B,)."""

    x: Array
    h_0: Array
    lengths: Array | None = None

    def wire(self, subject: Subject) -> Arrays:
        """As the server takes it."""
        return feed_of(subject.signature, self.x, self.h_0, self.lengths)


def make_request(subject: Subject, start: Array, T: int, B: int, seed: Sequence[int]) -> Request:
    """Random inputs from a seed.

    Args:
        subject: whose inputs.
        start: (L*D, H), the state where the client sends none.
        T, B: sequence length and batch size.
        seed: decides the numbers.
    """
    generator = np.random.default_rng(list(seed))
    spec, dtype = subject.weights.spec, subject.weights.dtype.name
    T = subject.signature.fixed_T or T
    x = rounded(generator.standard_normal((T, B, spec.input_size)), dtype)
    h_0 = np.repeat(start[:, None], B, axis=1)
    if subject.signature.h_0 is not None:
        h_0 = rounded(generator.uniform(-1, 1, h_0.shape), dtype)
    lengths = generator.integers(1, T + 1, B) if subject.signature.lengths else None
    return Request(x, h_0, lengths)


def judge_answer(
    subject: Subject, request: Request, raw: Mapping[str, Array], torch_error: float | None, h_0: Array | None = None
) -> Judgement:
    """The verdict on one answer of a server.

    Args:
        subject: the network.
        request: what was sent.
        raw: what came back, by name.
        torch_error: torch's own on the request, where there are layers below the last, which a server does not show.
        h_0: (L*D, B, H) of the server, where it is another than the request's.
    """
    spec, weights = subject.weights.spec, subject.weights
    T, B = request.x.shape[:2]
    signature = subject.signature
    assert signature.output is not None
    expected = {signature.output: (B, T, spec.num_directions * spec.hidden_size)}
    if signature.h_n is not None:
        expected[signature.h_n] = (B, spec.num_layers * spec.num_directions, spec.hidden_size)
    if signature.prediction is not None and subject.head is not None:
        expected[signature.prediction] = (B, T, len(subject.head.weight))
    if not signature.batch_first:
        return Judgement("wrong-shape", "the server's model has time as its first axis")
    if problem := shape_problem(raw, expected, weights.dtype):
        return Judgement("missing-output" if "is missing" in problem else "wrong-shape", problem)
    state = request.h_0 if h_0 is None else h_0
    truth = run_oracle(weights, request.x, state, request.lengths)
    answers = answers_of(signature, raw)
    found = judge(weights, request.x, state, answers, truth, subject.asked, lengths=request.lengths, head=subject.head)
    if found.code or found.residual is not None:
        return found
    ratio = ratio_to_torch(found.max_abs, torch_error, truth, weights)
    if ratio is None or not ratio <= RATIO_GATE:
        said = "no finite error can be measured" if ratio is None else f"{ratio:.3g} times torch's own error"
        return Judgement("end-to-end", said, max_abs=found.max_abs)
    return found
