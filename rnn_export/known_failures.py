"""Failures that are known: they do not fail a run, but they do once they are gone."""

from collections.abc import Sequence
from dataclasses import dataclass

from rnn_export.report import Report
from rnn_export.result import Result, Status, exit_code
from rnn_export.summary import level_of


@dataclass(frozen=True)
class KnownFailure:
    """What is expected to fail on a runtime.

    Attributes:
        place: where that is written, in words.
        runtime: the runtime's name.
        reason: why, for people.
        case, code: which rows; None for any, but not both.
        network, form: where; None for every one.
    """

    place: str
    runtime: str
    reason: str
    case: str | None = None
    code: str | None = None
    network: str | None = None
    form: str | None = None

    def covers(self, network: str, form: str) -> bool:
        """Whether it is about that network in that form."""
        return self.network in (None, network) and self.form in (None, form)

    def explains(self, row: Result) -> bool:
        """Whether the row is this failure; that nothing ran is none."""
        own = row.runtime == self.runtime and not row.passed and row.status is not Status.ABSENT
        return own and self.case in (None, row.case) and self.code in (None, row.code)

    def __str__(self) -> str:
        what = [f"code {self.code}"] if self.code else []
        what += [f"case {self.case}"] if self.case else []
        return f"{self.runtime} with {' and '.join(what)}"


def unexplained(rows: Sequence[Result], known: Sequence[KnownFailure]) -> list[Result]:
    """The rows that no known failure explains."""
    return [row for row in rows if not any(one.explains(row) for one in known)]


def news_of(report: Report, runtime: str, known: Sequence[KnownFailure]) -> bool:
    """Whether a runtime fails in a way that no known failure explains."""
    rows = [row for row in report.results if row.runtime == runtime]
    return any(level_of(report, row) == "error" for row in unexplained(rows, known))


def exit_code_beside(report: Report, known: Sequence[KnownFailure]) -> int:
    """The report's exit code by the rows that no known failure explains; a runtime that has none left counts not."""
    rows = unexplained(report.results, known)
    left = {row.runtime for row in rows}
    required, demanded = report.required & left, report.demanded & left
    code = exit_code(rows, required, demanded, report.strict, report.references)
    return 0 if code == 5 and not required else code


def why_stale(one: KnownFailure, seen: Sequence[tuple[Report, Sequence[KnownFailure]]]) -> str:
    """Why a known failure is none any more, in words; empty where it still is, or where nobody can tell.

    Args:
        one: the known failure.
        seen: the reports of every network and form that it covers, each with all that cover the same.
    """
    own = [[row for row in report.results if row.runtime == one.runtime] for report, _ in seen]
    own = [rows for rows in own if any(row.status is not Status.ABSENT for row in rows)]
    if not own or any(one.explains(row) for rows in own for row in rows):
        return ""
    if any(news_of(report, one.runtime, known) for report, known in seen):
        return ""  # it fails in another way, which hides what it would have done
    cases = dict.fromkeys(row.case for rows in own for row in rows if row.case)
    if one.case is not None and one.case not in cases:
        return f"no such case ran; there are {', '.join(cases)}"
    return "it passes now"
