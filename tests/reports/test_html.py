"""The page is one file, small, with every row in it, and every name in it is text."""

import re
from dataclasses import replace

import pytest

from rnn_export.cases import default_cases
from rnn_export.record import Series
from rnn_export.reports import FORMATS
from rnn_export.reports._groups import GROUPS, OTHER, group_of
from rnn_export.reports._plots import BEYOND, drawable, error_plot, residual_plot
from rnn_export.spec import RNNSpec
from tests.rows import failing_report, hostile_report, passing_report, report_of

HTML = FORMATS.get("html")
LARGEST = 500_000  # bytes


def test_every_case_has_a_name_that_links_can_use():
    report = failing_report()
    names = re.findall(r'<tr id="([^"]+)"', HTML.render(report))
    assert len(names) == len(set(names)) == len(report.results)
    assert "onnxruntime-cpu/T=5-B=3" in names
    assert "onnxruntime-cuda/COMPARE" in names  # it ran no case


def test_two_rows_of_one_name_have_two_names():
    rows = passing_report().results[1]
    names = re.findall(r'<tr id="([^"]+)"', HTML.render(report_of(rows, rows)))
    assert names == ["onnxruntime-cpu/T=5-B=3", "onnxruntime-cpu/T=5-B=3/2"]


def test_a_finding_is_explained():
    text = HTML.render(failing_report())
    assert "A step is not what the recurrence says" in text
    assert "ask the runtime for float32" in text


def test_the_page_refers_to_nothing_outside_itself():
    text = HTML.render(failing_report())
    assert re.findall(r'(?:src|href|action|data)="(?!#|data:,)[^"]*"', text) == []
    assert re.findall(r"url\((?!#)[^)]*\)|@import", text) == []
    assert "default-src 'none'" in text


def test_names_are_text_whatever_they_hold():
    text = HTML.render(hostile_report())
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "{{7*7}}" in text


def test_a_page_of_many_runtimes_is_small():
    report = passing_report()
    record = report.runtimes[0]
    rough = tuple(abs(hash((step, 1)) % 1000) / 300 for step in range(400))
    record = replace(record, series=replace(record.series, residual=rough, error=tuple(x * 1e-7 for x in rough)))
    rows = [replace(row, case=f"T={T} B=1") for row in report.results[1:2] for T in range(35)]
    names = [f"runtime-{number}" for number in range(12)]
    many = replace(
        report,
        results=tuple(replace(row, runtime=name) for name in names for row in rows),
        runtimes=tuple(replace(record, name=name) for name in names),
    )
    assert len(HTML.render(many).encode()) < LARGEST


@pytest.mark.parametrize("lengths", [False, True])
def test_every_usual_case_has_a_group(lengths):
    cases = default_cases(RNNSpec(3, 4), "float32", has_lengths=lengths)
    groups = {case.name: group_of(case.name) for case in cases}
    assert set(groups.values()) <= set(GROUPS)
    assert groups["T=5 B=3"] == "lengths and batches"
    assert group_of("in.npz T=5 B=2") == "own data"
    assert group_of("T=7 B=2, rnn") == "lengths and batches"
    assert group_of("weights") == OTHER


class TestPlots:
    def test_a_drawing_takes_the_pages_colours_and_fonts_and_has_no_date(self):
        series = passing_report().runtimes[0].series
        for text in (residual_plot(series, None, "a"), error_plot(series, "b")):
            assert text.startswith("<svg ")
            assert re.findall(r"#[0-9a-f]{6}\b", text) == []
            assert "font-family" not in text
            assert "metadata" not in text
            assert "var(--accent)" in text

    def test_the_threshold_and_the_first_wrong_step_are_drawn(self):
        series = passing_report().runtimes[0].series
        plain, marked = (residual_plot(series, step, "a").count("var(--bad)") for step in (None, 37))
        assert (plain, marked) == (1, 2)

    @pytest.mark.parametrize(
        "values", [(0.0,), (0.0, 0.0), (1.0,), (1e-300, 1.0), (1.7e308, 1.0), (1.7e308,), (0.0, 1e29), (5.0, 1e9)]
    )
    def test_any_numbers_can_be_drawn(self, values):
        series = Series("case", len(values), 1, 4.0, values, values)
        assert "<path" in residual_plot(series, 0, "a")
        assert "<path" in error_plot(series, "a")

    def test_what_is_beyond_all_measure_does_not_flatten_the_rest(self):
        assert drawable((1.0, 2.0, 1.7e308), at_least=4.0) == [1.0, 2.0, 40.0]
        assert drawable((1.7e308,), at_least=0.0) == [1.0]
        assert BEYOND < 1.7e308
