"""Results -> what is shown: a table a person likes to read, or JSON with a versioned schema."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from rnn_export.result import NO_RUNTIMES, Result, Status, exit_code

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
_SEVERITY = [  # least first: what a reader should see first, and what a runtime's row says
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
_STYLE = {
    Status.PASS: "green",
    Status.DIVERGENCE: "yellow",
    Status.ABSENT: "dim",
}
MOST_FINDINGS = 12


@dataclass(frozen=True)
class Report:
    """A whole verification.

    Attributes:
        artifact: the name of what was verified.
        form: the artifact's form; None for a file that somebody else exported.
        network: the spec in words.
        results: every row.
        required, demanded, strict, references: what decides the exit code, see ``result.exit_code``.
        named: whether the user said which runtimes.
    """

    artifact: str
    form: str | None
    network: str
    results: tuple[Result, ...]
    required: frozenset[str]
    demanded: frozenset[str] = frozenset()
    strict: bool = False
    references: frozenset[str] = frozenset()
    named: bool = False

    @property
    def exit_code(self) -> int:
        return exit_code(list(self.results), self.required, self.demanded, self.strict, self.references)

    def __str__(self) -> str:
        """The command line's table, without colours."""
        from rich.console import Console

        text = io.StringIO()
        print_report(self, Console(file=text, width=160, color_system=None, highlight=False, soft_wrap=True))
        return text.getvalue().rstrip("\n")

    def to_dict(self) -> dict[str, Any]:
        """Schema 1; a number that is not finite is written as the largest float."""
        passed = sum(result.passed for result in self.results)
        absent = sum(result.status is Status.ABSENT for result in self.results)
        diverged = sum(result.status is Status.DIVERGENCE for result in self.results)
        failed = len(self.results) - passed - absent - diverged
        return {
            "schema": SCHEMA,
            "artifact": self.artifact,
            "form": self.form,
            "results": [dict(result.to_dict()) for result in self.results],
            "summary": {"passed": passed, "failed": failed, "diverged": diverged, "absent": absent},
            "exit_code": self.exit_code,
        }


def print_report(report: Report, console: "Console") -> None:
    """The table, what was found, and the last line."""
    from rich.table import Table
    from rich.text import Text

    form = f"form {report.form}" if report.form else "exported by somebody else"
    console.print(Text(f"{report.artifact}   {report.network}   {form}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("runtime", "version", "cases", "residual", "precision", "error", "x torch", "verdict"):
        right = heading in ("cases", "residual", "error", "x torch")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for name, rows in _by_runtime(report.results).items():
        status = _verdict(rows)
        table.add_row(*_cells(name, rows), Text(status.value, style=_style(status)))
    console.print(table)
    findings = _findings(report.results)
    for status, line in findings[:MOST_FINDINGS]:
        # what passed and still has something to say is a note
        word = "NOTE" if status is Status.PASS else status.value
        console.print(Text.assemble((word, _style(status)), f" {line}"))
    if len(findings) > MOST_FINDINGS:
        console.print(f"... and {len(findings) - MOST_FINDINGS} more: --format json has them all")
    console.print(Text(_last_line(report), style="bold green" if report.exit_code == 0 else "bold red"))


def _style(status: Status) -> str:
    return _STYLE.get(status, "bold red")


def _verdict(rows: Sequence[Result]) -> Status:
    """The worst status of a runtime's rows; a documented divergence does not hide that the rest passed."""
    statuses = {row.status for row in rows}
    if statuses <= {Status.PASS, Status.DIVERGENCE} and Status.PASS in statuses:
        return Status.PASS
    return max(statuses, key=_SEVERITY.index)


def _cells(name: str, rows: Sequence[Result]) -> list[str]:
    ran = any(row.status is not Status.ABSENT for row in rows)
    precisions = sorted({row.precision for row in rows if row.precision})
    errors = [row.max_abs for row in rows if row.max_abs is not None]
    return [
        name,
        rows[0].version,
        f"{sum(row.passed for row in rows)}/{len(rows)}" if ran else "",
        _number(max((row.residual for row in rows if row.residual is not None), default=None)),
        ", ".join(precisions),
        f"{median(errors):.1e}" if errors else "",  # of the cases: inputs of 1e30 would drown a maximum
        _number(max((row.ratio for row in rows if row.ratio is not None), default=None)),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 1e4 else f"{value:.1e}"


def _by_runtime(results: Sequence[Result]) -> Mapping[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.runtime, []).append(result)
    return groups


def _findings(results: Sequence[Result]) -> list[tuple[Status, str]]:
    """What has a detail, worst first; the same finding in several places is one line."""
    places: dict[tuple[Status, str, str], list[Result]] = {}
    for result in results:
        if result.detail:
            key = (result.status, result.code, re.sub(r"\d[\d.e+-]*", "#", result.detail))
            places.setdefault(key, []).append(result)
    lines = []
    for (status, code, _), rows in places.items():
        runtimes = ", ".join(dict.fromkeys(row.runtime for row in rows))
        cases = list(dict.fromkeys(row.case for row in rows if row.case))
        more = f" and {len(cases) - 2} more" if len(cases) > 2 else ""
        where = f"{runtimes} at {', '.join(cases[:2])}{more}" if cases else runtimes
        lines.append((status, f"{where}: {_shortened(rows[0].detail)}" + (f" [{code}]" if code else "")))
    return sorted(lines, key=lambda line: -_SEVERITY.index(line[0]))


def _shortened(text: str, limit: int = 300) -> str:
    # a foreign file's names must not steer the terminal
    detail = "".join(character if character.isprintable() else "?" for character in text)
    return detail if len(detail) <= limit else f"{detail[:limit]}..."


def _last_line(report: Report) -> str:
    summary = report.to_dict()["summary"]
    verdicts = {name: _verdict(rows) for name, rows in _by_runtime(report.results).items()}
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
    numbers = ", ".join(f"{number} {word}" for word, number in summary.items() if number)
    return f"{words} ({numbers})"
