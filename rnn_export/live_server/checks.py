"""What is asked of a server by single requests: that it is ready, says what the bundle says, answers, and refuses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.golden import Golden, true_outputs
from rnn_export.judgement import Judgement
from rnn_export.live_server.endpoint import Arrays, Description, Endpoint, Refused, Replies, Step
from rnn_export.live_server.requests import Request, judge_answer, make_request
from rnn_export.live_server.yardstick import Yardstick
from rnn_export.result import Result, Stage, Status
from rnn_export.rounding import ARITHMETICS
from rnn_export.serving import Interface, Tensor
from rnn_export.subject import Subject

ROUNDINGS = 8  # between the oracle's sums here and where the bundle was made


@dataclass(frozen=True)
class Probed:
    """What one endpoint is held against.

    Attributes:
        endpoint: how the server is reached.
        subject: the network, as the server's clients see it.
        interface: what clients and server exchange.
        start: (L*D, H), the state of a sequence's beginning where clients send none.
        description: what the server says of itself.
        yardstick: torch's errors on the requests.
        max_batch: the most rows of one request.
    """

    endpoint: Endpoint
    subject: Subject
    interface: Interface
    start: NDArray[Any]
    description: Description
    yardstick: Yardstick
    max_batch: int

    @property
    def holds_state(self) -> bool:
        """Whether the server carries the state from request to request."""
        return self.interface.state == "server"

    @property
    def said_max_batch(self) -> int:
        """Rows that the server says it takes at once; 0 where it does not say."""
        return int((self.description.config or {}).get("max_batch_size") or 0)

    @property
    def joins(self) -> bool:
        """Whether the server says that it joins requests."""
        batchers = ("dynamic_batching", "sequence_batching")
        return self.said_max_batch > 1 and any((self.description.config or {}).get(one) is not None for one in batchers)

    def request(self, T: int, B: int, *seed: int) -> Request:
        """Random inputs, of no more rows than one request may have: one where the server holds the state."""
        most = 1 if self.holds_state else self.max_batch
        return make_request(self.subject, self.start, T, min(B, most), seed)

    def judge(self, request: Request, raw: Mapping[str, NDArray[Any]], h_0: NDArray[Any] | None = None) -> Judgement:
        """The verdict on an answer; ``h_0`` (L*D, B, H) is the server's, where it is another than the request's."""
        return judge_answer(self.subject, request, raw, self.yardstick.error_of(request, h_0), h_0)

    def ask(self, request: Arrays) -> Replies:
        """One request alone; a whole sequence where the server holds the state."""
        held = self.holds_state
        return self.endpoint.send([[Step("alone", int(held), held, held)]], {"alone": request})

    def refused(self, case: str, errors: Sequence[Refused]) -> Result:
        """The row of right requests that were not answered."""
        first, count = errors[0], sum(one.times for one in errors)
        detail = f"{count} requests were refused: {first.said}" if count > 1 else first.said
        name, version = self.endpoint.runtime.name, self.description.version
        # Without a status it was not the server that said it: it is gone, or hangs.
        status, code = (Status.REFUSED, "refused") if first.status else (Status.CRASHED, "not-ready")
        return Result(name, version, case, Stage.RUN, status, code, detail=detail)

    def turned_down(self, case: str, replies: Replies, what: str) -> Result:
        """The row of a wrong request: passed where the server itself refused it, and did not hang or fall."""
        if not replies.errors:
            return self.row(case, code="accepted", detail=f"{what} was answered")
        first = replies.errors[0]
        code, detail = ("", "") if first.status else ("not-ready", f"the server did not answer: {first.said}")
        return self.row(case, code=code, detail=detail)

    def row(self, case: str, judgement: Judgement | None = None, detail: str = "", code: str = "") -> Result:
        """A row of the report: PASS where neither a judgement nor a code says otherwise."""
        found = judgement or Judgement(code, detail)
        status = Status.PASS if not found.code else Status.DIVERGENCE if found.diverges else Status.MISMATCH
        text = "; ".join(part for part in ((detail,) if judgement else ()) + (found.detail,) if part)
        return Result(
            self.endpoint.runtime.name,
            self.description.version,
            case,
            Stage.COMPARE,
            status,
            found.code,
            found.residual,
            found.precision,
            found.max_abs,
            None,
            text,
            *(found.element or ()),
        )


def check_ready(probed: Probed) -> Iterator[Result]:
    """The server is live and ready, and so is the model."""
    said = probed.description
    lacking = [word for word in ("live", "ready", "model_ready") if not getattr(said, word)]
    detail = f"the server says that it is not {' and '.join(lacking).replace('model_ready', 'ready with the model')}"
    yield probed.row("ready", code="not-ready" if lacking else "", detail=detail if lacking else "")


def check_metadata(probed: Probed) -> Iterator[Result]:
    """Names, types and sizes are those of the manifest."""
    metadata = probed.description.metadata or {}
    sides = (("inputs", probed.interface.sent), ("outputs", probed.interface.outputs))
    problems = [said for side, wanted in sides for said in _differences(side[:-1], metadata.get(side) or (), wanted)]
    yield probed.row("metadata", code="metadata" if problems else "", detail="; ".join(problems))


def _differences(side: str, found: Sequence[Mapping[str, Any]], wanted: Sequence[Tensor]) -> Iterator[str]:
    said = {str(one.get("name")): one for one in found}
    for tensor in wanted:
        if tensor.name not in said:
            yield f"the server has no {side} {tensor.name}"
            continue
        one = said[tensor.name]
        shape, right = [int(size) for size in one.get("shape") or ()], [-1, *tensor.shape]
        if one.get("datatype") != tensor.datatype or shape != right:
            yield f"{side} {tensor.name} is {one.get('datatype')}{shape}, not {tensor.datatype}{right}"
    for name in sorted(set(said) - {tensor.name for tensor in wanted}):
        yield f"the server has an {side} {name}, which the manifest does not list"


def check_golden(probed: Probed, golden: Sequence[Golden]) -> Iterator[Result]:
    """The golden requests of the bundle: the answers in it are the network's, and the server's are judged.

    One in chunks is sent in its chunks where the client holds the state; ``check_sequences`` does so where the server
    holds it.
    """
    for number, one in enumerate(golden):
        request = _request_of(one, probed)
        case = f"golden {number} T={len(request.x)} B={request.x.shape[1]}"
        if problem := _differs(probed, request, one):
            yield probed.row(case, code="golden", detail=problem)
        elif not one.chunks:
            yield _answered(probed, case, request)
        elif not probed.holds_state:
            yield probed.row(f"{case} in chunks", _in_chunks(probed, request, one.chunks))


def _differs(probed: Probed, request: Request, golden: Golden) -> str:
    """What of the golden answers is not the network's; empty where all is. Other processors add in another order."""
    weights = probed.subject.weights
    truth = true_outputs(weights, probed.subject.head, request.x, request.h_0, request.lengths)
    u = ROUNDINGS * ARITHMETICS[weights.dtype.name].unit_roundoff
    for name, found in golden.outputs.items():
        expected = truth.get(name)
        if expected is None or found.dtype != expected.dtype or found.shape != expected.shape:
            return f"{name} in the bundle's golden answers is of another shape or type"
        if not np.allclose(found.astype(np.float64), expected.astype(np.float64), rtol=u, atol=u, equal_nan=True):
            return f"{name} in the bundle's golden answers is not what the network gives"
    return ""


def _request_of(golden: Golden, probed: Probed) -> Request:
    """Time-major."""
    x = golden.inputs["input"].swapaxes(0, 1)
    h_0 = golden.inputs.get("h_0", np.repeat(probed.start[None], x.shape[1], axis=0)).swapaxes(0, 1)
    lengths = golden.inputs["lengths"][:, 0] if "lengths" in golden.inputs else None
    return Request(x, h_0, lengths)


def _answered(probed: Probed, case: str, request: Request) -> Result:
    replies = probed.ask(request.wire(probed.subject))
    if replies.errors:
        return probed.refused(case, replies.errors)
    (raw,) = replies.answers["alone"]
    return probed.row(case, probed.judge(request, raw))


def _in_chunks(probed: Probed, request: Request, chunks: Sequence[int]) -> Judgement:
    """The client carries h_n to h_0; every chunk follows from where the server's own last one ended."""
    h_0, start, worst = request.h_0, 0, Judgement()
    for size in chunks:
        lengths = None if request.lengths is None else np.full_like(request.lengths, size)
        part = Request(request.x[start : start + size], h_0, lengths)
        replies = probed.ask(part.wire(probed.subject))
        if replies.errors:
            return Judgement("refused", replies.errors[0].said)
        (raw,) = replies.answers["alone"]
        judgement = probed.judge(part, raw)
        if judgement.code:
            return judgement
        worst = max(worst, judgement, key=lambda one: one.residual or 0.0)
        h_0, start = raw["h_n"].swapaxes(0, 1), start + size
    return worst


def check_bad_requests(probed: Probed) -> Iterator[Result]:
    """What no server may answer as if nothing were wrong; after all of them it still answers what is right."""
    good = probed.request(4, 2, 7)
    for what, bad in _bad_requests(probed, good.wire(probed.subject)).items():
        yield probed.turned_down(f"bad request: {what}", probed.ask(bad), what)
    yield _answered(probed, "bad request: and then a good one", good)


def _bad_requests(probed: Probed, good: Arrays) -> dict[str, Arrays]:
    x = good["input"]
    wrong_type = np.float32 if x.dtype != np.float32 else np.float64
    bad: dict[str, Arrays] = {
        "an input of another width": {**good, "input": np.concatenate([x, x[..., :1]], axis=-1)},
        "an input of two axes": {**good, "input": np.ascontiguousarray(x[:, 0])},
        "an input of another type": {**good, "input": x.astype(wrong_type)},
        "an input of another name": {**{name: array for name, array in good.items() if name != "input"}, "inputs": x},
    }
    for name in set(good) - {"input"}:
        bad[f"no {name}"] = {other: array for other, array in good.items() if other != name}
    if "lengths" in good:
        bad["a length beyond the sequence's end"] = {**good, "lengths": good["lengths"] + x.shape[1]}
        bad["a length of 0"] = {**good, "lengths": np.zeros_like(good["lengths"])}
    if probed.said_max_batch and not probed.holds_state:
        rows = probed.said_max_batch + 1
        many = {name: np.repeat(array, -(-rows // len(x)), axis=0)[:rows] for name, array in good.items()}
        bad[f"{rows} rows, more than max_batch_size"] = many
    return bad
