"""JSON lines: first what the rows have in common, then one row per line, for what reads streams."""

import json

from rnn_export.errors import RnnExportError
from rnn_export.report import Report, error_document
from rnn_export.reports import report_format


def render_error(error: RnnExportError) -> str:
    return json.dumps(error_document(error)) + "\n"


@report_format("jsonl", suffix=".jsonl", summary="one row per line", render_error=render_error)
def render(report: Report) -> str:
    header = report.to_dict()
    rows = header.pop("results")
    return "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in (header, *rows))
