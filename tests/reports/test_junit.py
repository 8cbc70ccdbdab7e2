"""JUnit's XML fails just where the exit code is not 0, and counts what it holds."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.errors import ArtifactError
from rnn_export.reports import FORMATS
from rnn_export.reports.junit import render_error
from rnn_export.result import Status
from tests.rows import ROWS, failing_report, hostile_report, passing_report, report_of, row


def rendered(report) -> ET.Element:
    return ET.fromstring(FORMATS.get("junit").render(report))  # noqa: S314  # our own text


def test_there_is_a_suite_for_each_runtime_and_a_test_for_each_case():
    root = rendered(failing_report())
    names = ["file", "onnxruntime-cpu", "openvino", "onnxruntime-cuda", "rnn-export"]
    assert [suite.get("name") for suite in root] == names
    report = failing_report()
    assert len(root.findall(".//testcase")) == len(report.results) + 1
    case = root.find(".//testcase[@classname='openvino'][@name='T=400 B=1']/failure")
    assert case.get("type") == "step-residual"
    assert case.get("message") == "MISMATCH: residual 1e+03 > 4, first at t=37 b=0 unit=2 of layer 0 [step-residual]"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.MISMATCH, "failure"),
        (Status.FALLBACK, "failure"),
        (Status.REFUSED, "failure"),
        (Status.CRASHED, "error"),
        (Status.TIMEOUT, "error"),
        (Status.MEMORY, "error"),
        (Status.BROKEN, "error"),
        (Status.ABSENT, "error"),
        (Status.DIVERGENCE, "skipped"),
    ],
)
def test_a_row_is_what_it_counts_as(status, kind):
    root = rendered(report_of(row("a", status)))
    assert [child.tag for child in root.find("testsuite/testcase")] == [kind]
    others = rendered(report_of(row("b", Status.ABSENT)))
    assert [child.tag for child in others.find("testsuite/testcase")] == ["skipped"]


@given(ROWS, st.booleans())
def test_it_fails_just_where_the_exit_code_is_not_0(rows, strict):
    report = report_of(*rows, strict=strict)
    root = rendered(report)
    failed = int(root.get("failures")) + int(root.get("errors"))
    assert (failed > 0) == (report.exit_code != 0)
    assert int(root.get("tests")) == len(rows) + 1
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(root.findall(f".//{kind}")) == int(root.get(name))
        assert sum(int(suite.get(name)) for suite in root) == int(root.get(name))


def test_a_pass_has_no_failure():
    root = rendered(passing_report())
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("0", "0", "2")


def test_hostile_words_are_text_of_xml():
    root = rendered(hostile_report())
    assert root.findall(".//script") == []
    assert any("<script>" in case.get("name") for case in root.iter("testcase"))


def test_what_could_not_begin_is_an_error():
    root = ET.fromstring(render_error(ArtifactError("x is damaged", "Export it again")))  # noqa: S314
    (error,) = root.findall(".//error")
    assert (error.get("message"), error.get("type")) == ("x is damaged. Export it again", "ArtifactError")
    assert root.get("errors") == "1"
