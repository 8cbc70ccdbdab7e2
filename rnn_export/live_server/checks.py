"""What is asked of a server by single requests: that it is ready, says what the bundle says, answers, and refuses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.child import Failure
from rnn_export.golden import Golden
from rnn_export.judgement import Judgement
from rnn_export.live_server.endpoint import Arrays, Description, Endpoint, Replies, Step
from rnn_export.live_server.requests import Request, judge_answer, make_request
from rnn_export.live_server.yardstick import Yardstick
from rnn_export.result import Result, Stage, Status
from rnn_export.serving import Interface, Tensor
from rnn_export.subject import Subject


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
    """

    endpoint: Endpoint
    subject: Subject
    interface: Interface
    start: NDArray[Any]
    description: Description
    yardstick: Yardstick

    @property
    def holds_state(self) -> bool:
        """Whether the server carries the state from request to request."""
        return self.interface.state == "server"

    @property
    def most_rows(self) -> int:
        """Rows that the server says it takes at once; 0 where it does not say."""
        return int((self.description.config or {}).get("max_batch_size") or 0)

    def request(self, T: int, B: int, *seed: int) -> Request:
        """Random inputs; of one row where the server holds the state."""
        return make_request(self.subject, self.start, T, 1 if self.holds_state else B, seed)

    def judge(self, request: Request, raw: Mapping[str, NDArray[Any]], h_0: NDArray[Any] | None = None) -> Judgement:
        """The verdict on an answer; ``h_0`` (L*D, B, H) is the server's, where it is another than the request's."""
        return judge_answer(self.subject, request, raw, self.yardstick.error_of(request, h_0), h_0)

    def ask(self, request: Arrays) -> Replies:
        """One request alone; a whole sequence where the server holds the state."""
        held = self.holds_state
        return self.endpoint.send([[Step("alone", int(held), held, held)]], {"alone": request})

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
    """The golden requests of the bundle, judged step by step; a sequence of chunks is sent in its chunks."""
    for number, one in enumerate(golden):
        T = one.inputs["input"].shape[1]
        case = f"golden {number} T={T} B={len(one.inputs['input'])}"
        request = _request_of(one, probed)
        if one.chunks and probed.holds_state:
            continue  # check_sequences sends such, with others beside it
        if one.chunks:
            yield probed.row(f"{case} in chunks", _in_chunks(probed, request, one.chunks))
            continue
        yield _answered(probed, case, request, one.outputs)


def _request_of(golden: Golden, probed: Probed) -> Request:
    """Time-major."""
    x = golden.inputs["input"].swapaxes(0, 1)
    h_0 = golden.inputs.get("h_0", np.repeat(probed.start[None], x.shape[1], axis=0)).swapaxes(0, 1)
    lengths = golden.inputs["lengths"][:, 0] if "lengths" in golden.inputs else None
    return Request(x, h_0, lengths)


def _answered(probed: Probed, case: str, request: Request, expected: Mapping[str, NDArray[Any]]) -> Result:
    replies = probed.ask(request.wire(probed.subject))
    if replies.errors:
        return _refused(probed, case, replies)
    (raw,) = replies.answers["alone"]
    judgement = probed.judge(request, raw)
    missing = [name for name in expected if name not in raw]
    if missing:
        judgement = Judgement("missing-output", f"the server does not give {', '.join(missing)}")
    return probed.row(case, judgement)


def _in_chunks(probed: Probed, request: Request, chunks: Sequence[int]) -> Judgement:
    """The client carries h_n to h_0; every chunk follows from where the server's own last one ended."""
    h_0, start, worst = request.h_0, 0, Judgement()
    for size in chunks:
        lengths = None if request.lengths is None else np.full_like(request.lengths, size)
        part = Request(request.x[start : start + size], h_0, lengths)
        replies = probed.ask(part.wire(probed.subject))
        if replies.errors:
            return Judgement("refused", replies.errors[0][1])
        (raw,) = replies.answers["alone"]
        judgement = probed.judge(part, raw)
        if judgement.code:
            return judgement
        worst = max(worst, judgement, key=lambda one: one.residual or 0.0)
        h_0, start = raw["h_n"].swapaxes(0, 1), start + size
    return worst


def _refused(probed: Probed, case: str, replies: Replies) -> Result:
    _, said, _ = replies.errors[0]
    name, version = probed.endpoint.runtime.name, probed.description.version
    return Result(name, version, case, Stage.RUN, Status.REFUSED, "refused", detail=said)


def check_bad_requests(probed: Probed) -> Iterator[Result]:
    """What no server may answer as if nothing were wrong; after each it still answers what is right."""
    good = probed.request(4, 2, 7)
    for what, bad in _bad_requests(probed, good.wire(probed.subject)).items():
        case = f"bad request: {what}"
        try:
            replies = probed.ask(bad)
        except Failure as failure:
            yield probed.row(case, code="not-ready", detail=f"the client gave up: {failure.detail}")
            return
        if not replies.errors:
            yield probed.row(case, code="accepted", detail=f"a request with {what} was answered")
            continue
        yield probed.row(case)
    again = _answered(probed, "bad request: and then a good one", good, {})
    yield again


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
    if probed.most_rows and not probed.holds_state:
        repeats = -(-(probed.most_rows + 1) // len(x))
        many = {name: np.repeat(array, repeats, axis=0)[: probed.most_rows + 1] for name, array in good.items()}
        bad[f"{probed.most_rows + 1} rows, more than max_batch_size"] = many
    return bad
