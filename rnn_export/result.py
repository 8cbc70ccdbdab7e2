"""The words of a verdict: how far a run got, what that means, and one row of a report."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from rnn_export.documents import to_document


class Stage(Enum):
    """How far a run got."""

    FIND = "FIND"
    PREPARE = "PREPARE"
    RUN = "RUN"
    COMPARE = "COMPARE"


class Status(Enum):
    """What the outcome means."""

    PASS = "PASS"  # noqa: S105
    MISMATCH = "MISMATCH"  # it answered, wrongly
    DIVERGENCE = "DIVERGENCE"  # a documented difference of a runtime: NaN swallowed in relu, length 0
    FALLBACK = "FALLBACK"  # not on the execution provider that was asked for
    REFUSED = "REFUSED"  # it raised
    CRASHED = "CRASHED"
    TIMEOUT = "TIMEOUT"
    MEMORY = "MEMORY"
    ABSENT = "ABSENT"  # not installed here, or the machine lacks the device
    BROKEN = "BROKEN"  # it fails the canary too: the adapter is at fault, not the network


@dataclass(frozen=True)
class Result:
    """One case on one runtime.

    Attributes:
        runtime: the runtime's name, "file" for what is read from the file itself, or "expect" for saved outputs.
        version: of the runtime's package.
        case: the input that was run, by name; empty where the runtime did not get that far.
        stage: how far it got: FIND, PREPARE, RUN or COMPARE.
        status: what that means, such as PASS or MISMATCH.
        code: a stable word for the finding, empty when it passed; ``rnn-export explain CODE`` says what it means.
        residual: the largest q of the step residual after the appeal; null where none was measured.
        precision: the arithmetic that was really used.
        max_abs: the largest absolute error against the float64 oracle, over output and h_n.
        ratio: max_abs over torch's own error on the same input, in the same type.
        detail: the finding in words.
        step: of the first wrong element, from 0 in the input's own order; null where no single element is meant.
        row: of the batch that this element is in.
        unit: of the layer's state that it is.
        layer: from 0; null where no layer is meant, as in a head.
        direction: 0, or 1 for the one that reads from the end.
    """

    runtime: str
    version: str
    case: str
    stage: Stage
    status: Status
    code: str = ""
    residual: float | None = None
    precision: str | None = None
    max_abs: float | None = None
    ratio: float | None = None
    detail: str = ""
    step: int | None = None
    row: int | None = None
    unit: int | None = None
    layer: int | None = None
    direction: int | None = None

    @property
    def passed(self) -> bool:
        return self.status is Status.PASS

    def to_dict(self) -> Mapping[str, Any]:
        """For JSON, which has no infinity: a number that is not finite becomes the largest float."""
        return dict(to_document(self))


def without_paths(result: Result, folder: str) -> Result:
    """The row without the temporary folder in what a runtime said: it is nobody's business, and another each time."""
    return replace(result, detail=re.sub(rf"{re.escape(folder)}/(?:[\w-]+/)?", "", result.detail))


NO_RUNTIMES = frozenset({"file", "expect"})  # rows about the file itself, and about outputs saved elsewhere
_WRONG = {Status.MISMATCH, Status.FALLBACK}
_FAILED = {Status.CRASHED, Status.TIMEOUT, Status.MEMORY, Status.BROKEN}


def exit_code(
    results: list[Result],
    required: frozenset[str],
    demanded: frozenset[str],
    strict: bool,
    references: frozenset[str] = frozenset(),
) -> int:
    """The exit code of a verification.

    Args:
        results: all of them; only those of a required runtime, and of the file itself, count.
        required: the runtimes that were named, or every one present where none was.
        demanded: those named by ``--require``: they must also be present.
        strict: a DIVERGENCE counts as wrong.
        references: runtimes that run the weights and never the file: alone they prove nothing of it.

    Returns:
        0 all passed; 1 wrong, refused, or diverging under ``strict``; 4 a runtime failed, or a demanded one is
        absent; 5 nothing was checked, on one required runtime or on all. 1 outranks 4.
    """
    counted = [result for result in results if result.runtime in required | NO_RUNTIMES]
    wrong = _WRONG | {Status.REFUSED} | ({Status.DIVERGENCE} if strict else set())
    if any(result.status in wrong for result in counted):
        return 1
    absent = {result.runtime for result in results if result.status is Status.ABSENT}
    if any(result.status in _FAILED for result in counted) or absent & demanded:
        return 4
    passed = {result.runtime for result in results if result.passed}
    return 0 if required - references and required <= passed else 5
