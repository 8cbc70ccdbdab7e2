"""torch's own errors on the requests of a probe: what answers are held against where no step residual can be measured.

A server shows the last layer only. Of a network of one layer every step is judged; of a deeper one an answer may be
eight times as far from float64 as torch is on the same request, as in every verification. Of a quantised one it may be
eight times as far as float64 itself is with its states rounded to 8 bits.
"""

from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from rnn_export.environments import interpreter_of
from rnn_export.judgement import judge
from rnn_export.live_server.requests import Request
from rnn_export.oracle import run_oracle, state_rounding_error
from rnn_export.runtimes import RUNTIMES
from rnn_export.session import Session
from rnn_export.subject import Subject


class Yardstick:
    """torch in a child process that lasts as long as the probe; a context manager.

    Args:
        subject: the network.
        timeout: seconds for a request.
    """

    def __init__(self, subject: Subject, timeout: float) -> None:
        torch = RUNTIMES.get("torch")
        interpreter = interpreter_of(torch)
        assert interpreter is not None  # torch is a dependency of this package
        self._subject = subject
        self._session = Session(subject, torch, interpreter, timeout)
        self._needed = subject.weights.spec.num_layers > 1

    def __enter__(self) -> Self:
        if self._needed:
            self._session.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def error_of(self, request: Request, h_0: NDArray[Any] | None = None) -> float | None:
        """torch's largest error on a request, or on its x from another state h_0 (L*D, B, H); None for one layer."""
        if not self._needed:
            return None
        state = request.h_0 if h_0 is None else h_0
        weights, lengths = self._subject.weights, request.lengths
        if self._subject.original is not None:
            return state_rounding_error(weights, None, request.x, state, lengths)
        answers = self._session.answers(request.x, state, lengths)
        return judge(
            weights, request.x, state, answers, run_oracle(weights, request.x, state, lengths), lengths=lengths
        ).max_abs
