"""The table of the terminal, without colours."""

from rnn_export.report import Report
from rnn_export.reports import report_format


@report_format("human", suffix=".txt", summary="the table")
def render(report: Report) -> str:
    return f"{report}\n"
