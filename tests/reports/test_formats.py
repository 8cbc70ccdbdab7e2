"""Every format keeps the contract: it is named, renders any report, and always in the same way."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings

import rnn_export.reports
from rnn_export.errors import ArtifactError, OutputError, UsageError
from rnn_export.reports import FORMATS, Format, format_of, write_report
from tests.rows import HOSTILE, ROWS, failing_report, hostile_report, passing_report, report_of

SUFFIXES = {".html", ".json", ".jsonl", ".md", ".sarif", ".txt", ".xml"}
QUICK = [item for item in FORMATS if not item.needs]
REPORTS = {"passing": passing_report, "failing": failing_report, "hostile": hostile_report}


@pytest.fixture(params=list(FORMATS), ids=lambda item: item.name)
def item(request) -> Format:
    return request.param


def test_its_name_can_be_typed_and_its_summary_is_one_line(item):
    assert re.fullmatch(r"[a-z0-9]+", item.name)
    assert item.summary
    assert "\n" not in item.summary


def test_every_suffix_leads_to_one_format():
    assert {item.suffix for item in FORMATS if item.suffix} == SUFFIXES
    for item in FORMATS:
        if item.suffix:
            assert format_of(Path(f"report{item.suffix}")) is item
            assert format_of(Path(f"REPORT{item.suffix.upper()}")) is item


@pytest.mark.parametrize("name", ["report", "report.foo", "json", ".json"])
def test_another_suffix_is_refused_with_those_that_there_are(name):
    with pytest.raises(UsageError, match=r"has the suffix of no report. Choose one of \.html, \.json"):
        format_of(Path(name))


@pytest.mark.parametrize("report", list(REPORTS))
def test_the_same_report_is_the_same_text_and_can_be_written(item, report):
    text = item.render(REPORTS[report]())
    assert text == item.render(REPORTS[report]())
    assert text.encode()  # no half of a character
    assert text.endswith("\n")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)  # nothing that steers a terminal


@pytest.mark.parametrize("item", QUICK, ids=lambda item: item.name)
@settings(max_examples=50)
@given(ROWS)
def test_any_rows_can_be_rendered(item, rows):
    assert item.render(report_of(*rows))


@pytest.mark.parametrize("item", [item for item in FORMATS if item.render_error], ids=lambda item: item.name)
def test_what_machines_read_also_says_why_nothing_began(item):
    text = item.render_error(ArtifactError(f"{HOSTILE} is damaged", "Export it again"))
    assert "Export it again" in text
    assert text.encode()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    place = tmp_path / "new" / "report.json"
    write_report(passing_report(), place)
    assert place.read_text() == FORMATS.get("json").render(passing_report())
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match=r"report\.json cannot be written: No space left on device"):
        write_report(failing_report(), place)
    assert place.read_text() == FORMATS.get("json").render(passing_report())
    assert [file.name for file in place.parent.iterdir()] == ["report.json"]


def test_what_is_not_installed_is_said_with_what_to_type(monkeypatch):
    monkeypatch.setattr(rnn_export.reports, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"html needs jinja2, .* Run: pip install 'rnn-export\[report\]'"):
        format_of(Path("page.html"))
