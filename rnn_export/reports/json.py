"""The whole model as one JSON object, see docs/result.md: what every other format can be made from again."""

import json

from rnn_export.errors import RnnExportError
from rnn_export.report import Report, error_document
from rnn_export.reports import report_format


def render_error(error: RnnExportError) -> str:
    return json.dumps(error_document(error), indent=2) + "\n"


@report_format("json", suffix=".json", summary="everything", render_error=render_error)
def render(report: Report) -> str:
    return json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
