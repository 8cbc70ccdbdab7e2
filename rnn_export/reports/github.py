"""For GitHub Actions: the table, then each finding as an annotation of the run.

The table stands between stop-commands and a word that ends it, so that nothing in it is taken for a command.
"""

import hashlib

from rnn_export.errors import RnnExportError
from rnn_export.report import Report
from rnn_export.reports import report_format
from rnn_export.summary import findings_of, last_line, printable

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def render_error(error: RnnExportError) -> str:
    return f"{_annotation('error', 'rnn-export', str(error))}\n"


@report_format("github", summary="the table and annotations, in GitHub Actions", render_error=render_error)
def render(report: Report) -> str:
    table = str(report)
    word = hashlib.sha256(table.encode(errors="replace")).hexdigest()  # nobody can have written it into the table
    lines = [f"::stop-commands::{word}", table, f"::{word}::"]
    if report.exit_code:
        lines.append(_annotation("error", f"rnn-export {report.artifact}", last_line(report)))
    for finding in findings_of(report.results):
        if not finding.passed:
            title = f"{finding.status.value} {finding.where}"
            lines.append(_annotation(finding.level_in(report), title, f"{finding.detail} [{finding.code}]"))
    return "\n".join(lines) + "\n"


def _annotation(level: str, title: str, message: str) -> str:
    return f"::{_COMMANDS[level]} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25")  # line breaks, which end a command, are not printable


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
