"""The result of a benchmark as one versioned model: every rendering is made from it, and it is read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_export.benchmark.limit import Limit
from rnn_export.benchmark.spread import Spread
from rnn_export.documents import from_document, to_document
from rnn_export.errors import SourceError
from rnn_export.machine import Environment
from rnn_export.result import Status

SCHEMA = 1
REFERENCE = "torch"  # the label of the row that ratios are to
OPERATOR = "rnn on onnxruntime-cpu"  # the label of ONNX's own operator: what other exporters write
_AGAIN = "Measure again with this rnn-export"
_FAILED = {Status.CRASHED, Status.TIMEOUT, Status.MEMORY, Status.BROKEN, Status.ABSENT}


@dataclass(frozen=True)
class Row:
    """One form on one runtime.

    Attributes:
        label: the row's name: the runtime, or the form on the runtime.
        runtime: the runtime's name.
        form: the form's name; empty where the runtime reads the weights.
        version: of the runtime's package.
        status: PASS where it ran to the end; of what it computed that says nothing, see ``difference``.
        detail: why it did not.
        named: whether the user named it: a failure then counts.
        ratio: how many times as fast as torch, and its interval of 95 %.
        operator_ratio: the same against ONNX's RNN operator on ONNX Runtime.
        microseconds: of one step of the whole batch through the whole network, with quartiles over rounds.
        sequences_per_second: of T steps.
        share: of the machine's limit that was reached; above 1 it went faster than anything that the limit is made of.
        peak_bytes: the most memory that its process had resident, the runtime included.
        load_seconds: that the runtime took to load the network.
        difference: the largest of its output from torch's.
    """

    label: str
    runtime: str
    form: str
    version: str = ""
    status: Status = Status.PASS
    detail: str = ""
    named: bool = False
    ratio: Spread | None = None
    operator_ratio: Spread | None = None
    microseconds: Spread | None = None
    sequences_per_second: float | None = None
    share: float | None = None
    peak_bytes: int | None = None
    load_seconds: float | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Point:
    """One network under one load.

    Attributes:
        network: the spec in words, and the type where it is not float32.
        input_size: I.
        hidden_size: H.
        length: T, the steps of each sequence.
        batch: B.
        limit: what the machine can do at best.
        limit_problem: why that was not measured; empty where it was.
        rows: torch first.
    """

    network: str
    input_size: int
    hidden_size: int
    length: int
    batch: int
    limit: Limit | None
    limit_problem: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Benchmark:
    """A whole benchmark.

    Attributes:
        threads: of every runtime and of the limit.
        rounds: how many turns each row had.
        seconds: of a turn.
        points: every width and batch.
        environment: what it ran on.
        created: when, in UTC.
    """

    threads: int
    rounds: int
    seconds: float
    points: tuple[Point, ...]
    environment: Environment
    created: str

    @property
    def exit_code(self) -> int:
        """0; 1 where torch or a named row was refused; 4 where one of them failed or is absent. 1 outranks 4."""
        counted = [row for point in self.points for row in point.rows if row.named or row.label == REFERENCE]
        bad = {row.status for row in counted} - {Status.PASS}
        return 1 if bad - _FAILED else 4 if bad else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema": SCHEMA, **to_document(self)}

    @classmethod
    def from_dict(cls, data: Any) -> "Benchmark":
        """The inverse of ``to_dict``.

        Raises:
            SourceError: it is of another schema, or damaged.
        """
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA:
            raise SourceError(f"this is no benchmark of schema {SCHEMA}, but of {str(schema)[:20]!r}", _AGAIN)
        try:
            return from_document(cls, data)
        except ValueError as error:
            raise SourceError(f"the benchmark is damaged: {error}", _AGAIN) from None


def render_json(benchmark: Benchmark) -> str:
    """What ``read_benchmark`` reads."""
    return json.dumps(benchmark.to_dict(), indent=2, ensure_ascii=False) + "\n"


def read_benchmark(path: Path) -> Benchmark:
    """A result that ``bench --format json`` wrote.

    Raises:
        SourceError: the file is missing, no JSON, of another schema, or damaged.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", "Check the path") from None
    except (ValueError, RecursionError):
        raise SourceError(f"{path} is no JSON", "Write it with bench -o FILE.json") from None
    try:
        return Benchmark.from_dict(data)
    except SourceError as error:
        raise SourceError(f"{path}: {error.args[0]}", error.hint) from None
