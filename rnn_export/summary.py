"""What many rows come to: one verdict per runtime, one line per finding, one line in all."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rnn_export.record import Record
from rnn_export.result import NO_RUNTIMES, Result, Status

if TYPE_CHECKING:
    from rnn_export.report import Report

LEVELS = ("error", "warning", "note")
SEVERITY = [  # least first: what a reader should see first, and what a runtime's row says
    Status.ABSENT,
    Status.PASS,
    Status.DIVERGENCE,
    Status.REFUSED,
    Status.MEMORY,
    Status.TIMEOUT,
    Status.CRASHED,
    Status.BROKEN,
    Status.FALLBACK,
    Status.MISMATCH,
]


class Grouped(NamedTuple):
    """One finding, wherever it was made; a PASS is one that has something to say."""

    status: Status
    code: str
    rows: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        return self.status is Status.PASS

    def level_in(self, report: "Report") -> str:
        """The highest level of its rows, see ``level_of``."""
        return min((level_of(report, row) for row in self.rows), key=LEVELS.index)

    @property
    def detail(self) -> str:
        """In the words of its first row, without what would steer a terminal."""
        return printable(self.rows[0].detail)

    @property
    def where(self) -> str:
        """The runtimes and the first two cases."""
        runtimes = ", ".join(dict.fromkeys(row.runtime for row in self.rows))
        cases = list(dict.fromkeys(row.case for row in self.rows if row.case))
        more = f" and {len(cases) - 2} more" if len(cases) > 2 else ""
        return printable(f"{runtimes} at {', '.join(cases[:2])}{more}" if cases else runtimes)


def by_runtime(results: Sequence[Result]) -> Mapping[str, list[Result]]:
    """The rows of each runtime, in the order in which they first appear."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.runtime, []).append(result)
    return groups


def verdict_of(rows: Sequence[Result]) -> Status:
    """The worst status of the rows; a documented divergence does not hide that the rest passed."""
    statuses = {row.status for row in rows}
    if statuses <= {Status.PASS, Status.DIVERGENCE} and Status.PASS in statuses:
        return Status.PASS
    return max(statuses, key=SEVERITY.index)


def findings_of(results: Sequence[Result]) -> list[Grouped]:
    """What has a detail, worst first; the same finding in several places is one, whatever its numbers."""
    places: dict[tuple[Status, str, str], list[Result]] = {}
    for result in results:
        if result.detail:
            key = (result.status, result.code, re.sub(r"\d[\d.e+-]*", "#", result.detail))
            places.setdefault(key, []).append(result)
    found = [Grouped(status, code, tuple(rows)) for (status, code, _), rows in places.items()]
    return sorted(found, key=lambda finding: -SEVERITY.index(finding.status))


def level_of(report: "Report", row: Result) -> str:
    """What a row means for the exit code: error where it counts against it, warning where it differs, else note."""
    if row.passed:
        return "note"
    if row.status is Status.ABSENT:  # of a required one nothing was checked
        return "error" if row.runtime in report.required and report.exit_code else "note"
    counts = row.runtime in report.required | NO_RUNTIMES
    return "error" if counts and (row.status is not Status.DIVERGENCE or report.strict) else "warning"


def placement_words(record: Record) -> tuple[str, str, str, str]:
    """Of a placement: the provider that was asked for, the nodes of each, what fell back, and TF32."""
    placement = record.placement
    if placement is None:
        return "", "", "", ""
    nodes = ", ".join(f"{len(names)} on {provider}" for provider, names in placement.nodes.items())
    fallen = placement.fell_back
    elsewhere = ", ".join(f"{_first(names)} on {provider}" for provider, names in fallen.items())
    if not fallen and placement.asked not in placement.providers:
        elsewhere = f"everything: the session has {', '.join(placement.providers)}"
    allowed = {None: "no such option", True: "on", False: "off"}[placement.tf32]
    asked = "on" if record.precision == "TF32" else "off"
    tf32 = allowed if placement.tf32 is None else f"asked {asked}, session {allowed}"
    return placement.asked, nodes or "this version cannot tell", elsewhere or "nothing", tf32


def _first(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counts_of(results: Sequence[Result]) -> dict[str, int]:
    """How many rows passed, failed, diverged and are absent; every row counts once."""
    passed = sum(result.passed for result in results)
    absent = sum(result.status is Status.ABSENT for result in results)
    diverged = sum(result.status is Status.DIVERGENCE for result in results)
    failed = len(results) - passed - absent - diverged
    return {"passed": passed, "failed": failed, "diverged": diverged, "absent": absent}


def last_line(report: "Report") -> str:
    """The exit code in words, who is at fault, and how many rows."""
    verdicts = {name: verdict_of(rows) for name, rows in by_runtime(report.results).items()}
    passed = {result.runtime for result in report.results if result.passed}
    guilty = [
        f"{name} {status.value}"
        for name, status in verdicts.items()
        if (name in report.required and (status is not Status.PASS or name not in passed))
        or (name in NO_RUNTIMES and status is Status.MISMATCH)
    ]
    if report.exit_code == 1 and not guilty:  # under --strict
        guilty = [f"{row.runtime} {row.status.value}" for row in report.results if row.status is Status.DIVERGENCE][:1]
    others = set() if report.named else passed & report.required - {text.split()[0] for text in guilty}
    hint = f"; --runtime names those that you deploy to, such as {min(others)}" if others else ""
    idle = report.required & report.references
    why = f": {min(idle)} runs the weights and never the file" if idle == report.required and idle else ""
    words = {
        0: f"PASSED on {', '.join(name for name in verdicts if name in report.required)}",
        1: f"FAILED: {', '.join(guilty)}{hint}",
        4: f"FAILED: {', '.join(guilty)}",
        5: f"NO RUNTIME WAS CHECKED{': ' if guilty else why}{', '.join(guilty)}",
    }[report.exit_code]
    numbers = ", ".join(f"{number} {word}" for word, number in counts_of(report.results).items() if number)
    return printable(f"{words} ({numbers})")


def printable(text: str) -> str:
    """The text on one line, with a question mark for what is no character: a foreign file's names steer nothing."""
    return "".join(character if character.isprintable() else "?" for character in text)
