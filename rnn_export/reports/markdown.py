"""Markdown as GitHub reads it: for a pull request, an issue, or the summary of a job."""

import re
from collections.abc import Iterator, Sequence

from rnn_export.report import Report
from rnn_export.reports import report_format
from rnn_export.summary import by_runtime, findings_of, last_line, placement_words, printable, verdict_of
from rnn_export.table import HEADINGS, NUMBERS, cells


@report_format("markdown", suffix=".md", summary="for GitHub")
def render(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"## {'✅' if report.exit_code == 0 else '❌'} {plain(last_line(report))}"
    yield ""
    yield f"**{plain(report.artifact)}**: {', '.join(plain(text) for text in (report.network, report.drawn) if text)}"
    yield ""
    groups = by_runtime(report.results)
    rows = [[*cells(name, rows), verdict_of(rows).value] for name, rows in groups.items()]
    yield from _table(HEADINGS, rows)
    findings = findings_of(report.results)
    if findings:
        yield from ("", "### Findings", "")
    for finding in findings:
        word = "NOTE" if finding.passed else finding.status.value
        code = f" `{re.sub(r'[^A-Za-z0-9-]', '', finding.code)}`" if finding.code else ""
        yield f"- **{word}** {plain(finding.where)}: {plain(finding.detail)}{code}"
    placed = [[record.name, *placement_words(record)] for record in report.runtimes if record.placement]
    if placed:
        yield from ("", "### Placement", "")
        yield from _table(("runtime", "asked for", "nodes", "fell back", "TF32"), placed)
    yield from _environment(report)


def _environment(report: Report) -> Iterator[str]:
    machine = report.environment
    said = [f"manifest sha256 {report.digest}"] if report.digest else []
    if machine is not None:
        said += [f"{name} {version}" for name, version in machine.packages.items()]
        said += [machine.python, machine.platform, f"{machine.cpu}, {machine.cores} cores, {machine.threads} used"]
    said += [report.created] if report.created else []
    if said:
        yield from ("", f"<sub>{' · '.join(map(plain, said))}</sub>")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join('---:' if heading in NUMBERS else '---' for heading in headings)}|"
    for row in rows:
        yield f"| {' | '.join(map(plain, row))} |"


def plain(text: str) -> str:
    """The text as Markdown that says just that: no link, no image, no tag, no cell border."""
    # at the start of a line more would have a meaning; nothing of a report stands there
    escaped = re.sub(r"([\\`*_\[\]|~])", r"\\\1", printable(text))
    for character, entity in {"&": "&amp;", "<": "&lt;", ">": "&gt;", "://": "&#58;//", "@": "&#64;"}.items():
        escaped = escaped.replace(character, entity)
    # GitHub makes links of an address without a scheme, and of an issue's number
    return re.sub(r"(?<!&)#(?=\d)", "&#35;", re.sub(r"(?i)\bwww\.", "www&#46;", escaped))
