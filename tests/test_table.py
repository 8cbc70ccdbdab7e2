"""The table counts every row once, puts the worst first, and says nothing that the rows do not."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rnn_export.report import Report
from rnn_export.result import Status
from rnn_export.table import MOST_FINDINGS, print_report
from tests.rows import ROWS, report_of, row

LAST_LINES = {
    0: "PASSED on a",
    1: "FAILED: ",
    4: "FAILED: ",
    5: "NO RUNTIME WAS CHECKED",
}


def shown(report: Report, **options) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=160, **options))
    return stream.getvalue()


class TestTable:
    @given(ROWS, st.booleans())
    def test_any_rows_can_be_shown_and_the_last_line_is_the_exit_code(self, rows, strict):
        report = report_of(*rows, strict=strict)
        last = shown(report).rstrip("\n").splitlines()[-1]
        assert last.startswith({**LAST_LINES, 0: "PASSED on "}[report.exit_code])

    @pytest.mark.parametrize(
        ("status", "code"),
        [(Status.PASS, 0), (Status.MISMATCH, 1), (Status.CRASHED, 4), (Status.ABSENT, 5)],
    )
    def test_the_last_line_says_the_verdict_and_the_numbers(self, status, code):
        report = report_of(row("a", status))
        assert report.exit_code == code
        last = shown(report).rstrip("\n").splitlines()[-1]
        assert last.startswith(LAST_LINES[code])
        assert re.search(r"\(1 (passed|failed|absent)\)$", last)

    def test_the_last_line_names_only_runtimes_that_passed(self):
        rows = row("a", Status.PASS), row("b", Status.ABSENT, "", "not installed")
        last = shown(report_of(*rows, required=frozenset({"a", "b"}))).rstrip("\n").splitlines()[-1]
        assert "PASSED on a, b" not in last

    def test_a_runtime_has_one_line_with_its_worst_numbers(self):
        rows = [
            row("a", Status.PASS, "one", residual=0.5, precision="float32", max_abs=1e-7, ratio=1.0),
            row("a", Status.PASS, "two", residual=1.25, precision="float32", max_abs=3e-7, ratio=2.5),
            row("a", Status.PASS, "three", residual=0.1, precision="float32", max_abs=2e-7, ratio=2.0),
        ]
        line = next(line for line in shown(report_of(*rows)).splitlines() if line.startswith("a "))
        assert line.split() == ["a", "1.0", "3/3", "1.25", "float32", "2.0e-07", "2.50", "PASS"]

    def test_a_documented_difference_does_not_hide_that_the_rest_passed(self):
        text = shown(report_of(row("a", Status.PASS), row("a", Status.DIVERGENCE, "T=0", "refuses")))
        assert re.search(r"^a .*1/2.*PASS", text, re.MULTILINE)
        assert "DIVERGENCE a at T=0: refuses [divergence]" in text

    def test_the_worst_finding_comes_first(self):
        statuses = [status for status in Status if status is not Status.PASS]
        text = shown(report_of(*(row("a", status, "T=1", f"says {status.value}") for status in statuses)))
        order = [line.split()[0] for line in text.splitlines() if " says " in line]
        assert order[0] == "MISMATCH"
        assert order[-1] == "ABSENT"
        assert order.index("CRASHED") < order.index("REFUSED") < order.index("DIVERGENCE")

    def test_one_finding_in_several_places_is_one_line(self):
        rows = [row("a", Status.MISMATCH, f"T={t}", f"residual {t}.5 > 4") for t in range(1, 6)]
        rows += [row("b", Status.MISMATCH, "T=1", "residual 1e+10 > 4")]
        lines = [line for line in shown(report_of(*rows)).splitlines() if line.startswith("MISMATCH")]
        assert lines == ["MISMATCH a, b at T=1, T=2 and 3 more: residual 1.5 > 4 [mismatch]"]

    def test_many_findings_are_cut_and_counted(self):
        letters = "abcdefghijklmnopqr"
        rows = [row("a", Status.MISMATCH, "T=1", f"wrong {letter}") for letter in letters]
        text = shown(report_of(*rows))
        assert text.count("MISMATCH a at") == MOST_FINDINGS
        assert f"... and {len(letters) - MOST_FINDINGS} more: --format json has them all" in text

    def test_brackets_in_a_runtimes_words_are_shown_and_not_obeyed(self):
        text = shown(report_of(row("a", Status.REFUSED, "T=1", "[ONNXRuntimeError] [red]text[/] [/nonsense]")))
        assert "[ONNXRuntimeError] [red]text[/] [/nonsense]" in text

    def test_no_escape_codes_where_nobody_looks(self):
        assert "\x1b" not in shown(report_of(row("a", Status.MISMATCH, detail="x")))
        assert "\x1b" in shown(report_of(row("a", Status.MISMATCH, detail="x")), force_terminal=True)

    def test_escape_codes_in_a_runtimes_words_do_not_reach_the_terminal(self):
        assert "\x1b[2J" not in shown(report_of(row("a", Status.REFUSED, "T=1", "node \x1b[2Jname")))

    def test_an_absent_runtime_has_a_line_without_numbers(self):
        text = shown(report_of(row("a", Status.PASS), row("b", Status.ABSENT, "", "not installed: pip install b")))
        assert re.search(r"^b +1\.0 +ABSENT", text, re.MULTILINE)
        assert "ABSENT b: not installed: pip install b [absent]" in text

    def test_printed_from_python_it_is_the_table_without_colours(self, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        report = report_of(row("a", Status.PASS), row("b", Status.MISMATCH, "T=1", "[red]x"))
        assert f"{report}\n" == shown(report, color_system=None)
        assert "\x1b" not in str(report)

    def test_a_foreign_file_is_called_one(self):
        report = Report("x.onnx", None, "RNN(3 -> 4, tanh)", (row("a", Status.PASS),), frozenset({"a"}))
        assert shown(report).splitlines()[0] == "x.onnx   RNN(3 -> 4, tanh)   exported by somebody else"
