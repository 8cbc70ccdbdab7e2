"""JUnit's XML, which CI servers draw: a suite per runtime, a test per case, and one test that is the verdict.

A row that does not count is skipped: a documented difference, a runtime that is absent and not required. The suite
fails just where the exit code is not 0.
"""

from xml.etree import ElementTree as ET

from rnn_export.errors import RnnExportError
from rnn_export.report import Report
from rnn_export.reports import report_format
from rnn_export.result import Result, Status
from rnn_export.summary import by_runtime, last_line, level_of, printable

_FAILURES = (Status.MISMATCH, Status.FALLBACK, Status.REFUSED, Status.DIVERGENCE)  # others are errors, in JUnit's words


def render_error(error: RnnExportError) -> str:
    root = ET.Element("testsuites", name="rnn-export")
    suite = ET.SubElement(root, "testsuite", name="rnn-export")
    case = ET.SubElement(suite, "testcase", classname="rnn-export", name="verdict")
    ET.SubElement(case, "error", message=printable(str(error)), type=type(error).__name__)
    return _text(root)


@report_format("junit", suffix=".xml", summary="JUnit", render_error=render_error)
def render(report: Report) -> str:
    root = ET.Element("testsuites", name=f"rnn-export {printable(report.artifact)}")
    for name, rows in by_runtime(report.results).items():
        suite = ET.SubElement(root, "testsuite", name=printable(name))
        if report.created:
            suite.set("timestamp", printable(report.created).removesuffix("Z"))  # the schema has no time zone
        for row in rows:
            _add_row(suite, report, row)
    suite = ET.SubElement(root, "testsuite", name="rnn-export")
    case = ET.SubElement(suite, "testcase", classname="rnn-export", name="verdict")
    if report.exit_code:
        ET.SubElement(case, "failure", message=last_line(report), type=f"exit code {report.exit_code}")
    return _text(root)


def _add_row(suite: ET.Element, report: Report, row: Result) -> None:
    case = ET.SubElement(suite, "testcase", classname=printable(row.runtime))
    case.set("name", printable(row.case) or row.stage.value)
    message = printable(f"{row.status.value}: {row.detail}" + (f" [{row.code}]" if row.code else ""))
    if row.passed:
        if row.detail:
            ET.SubElement(case, "system-out").text = printable(row.detail)
    elif level_of(report, row) == "error":
        kind = "failure" if row.status in _FAILURES else "error"
        ET.SubElement(case, kind, message=message, type=printable(row.code) or row.status.value)
    else:
        ET.SubElement(case, "skipped", message=message)


def _text(root: ET.Element) -> str:
    for element in (*root, root):
        cases = list(element.iter("testcase"))
        for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            element.set(name, str(sum(case.find(kind) is not None for case in cases)))
        element.set("tests", str(len(cases)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'
