"""SARIF: every finding has its rule, its level and its place, and the standard's own names and values are kept."""

import json
import re
from urllib.parse import unquote

from rnn_export.errors import ArtifactError
from rnn_export.findings import FINDINGS
from rnn_export.reports import FORMATS
from rnn_export.reports.sarif import render_error
from tests.rows import failing_report, hostile_report, passing_report


def rendered(report) -> dict:
    log = json.loads(FORMATS.get("sarif").render(report))
    (run,) = log["runs"]
    return run


def test_every_code_is_a_rule_with_help():
    driver = rendered(passing_report())["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("rnn-export", "0.1.0")
    assert [rule["id"] for rule in driver["rules"]] == list(FINDINGS)
    for rule in driver["rules"]:
        finding = FINDINGS[rule["id"]]
        assert finding.meaning in rule["help"]["text"]
        assert finding.remedy in rule["help"]["text"]


def test_a_finding_has_its_rule_level_place_and_numbers():
    run = rendered(failing_report())
    found = {result["ruleId"]: result for result in run["results"]}
    assert {code: result["level"] for code, result in found.items()} == {
        "no-steps": "warning",
        "step-residual": "error",
        "fallback": "error",
    }
    (place,) = found["step-residual"]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "digits"
    assert place["logicalLocations"] == [{"fullyQualifiedName": "openvino/T=400 B=1"}]
    assert found["step-residual"]["properties"]["step"] == 37
    assert run["invocations"] == [{"executionSuccessful": True, "endTimeUtc": "2026-01-31T12:00:00Z", "exitCode": 1}]


def test_a_finding_is_recognised_from_run_to_run_and_from_others():
    marks = [
        [result["partialFingerprints"]["rnnExport/v1"] for result in rendered(failing_report())["results"]]
        for _ in range(2)
    ]
    assert marks[0] == marks[1]
    assert len(set(marks[0])) == len(marks[0])


def test_what_passed_is_no_result():
    assert [result["ruleId"] for result in rendered(passing_report())["results"]] == ["no-steps", "absent"]


def test_a_hostile_name_is_one_step_of_a_path():
    for result in rendered(hostile_report())["results"]:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[\w.~%-]+", uri)
        assert "<script>" in unquote(uri)


def test_what_could_not_begin_was_not_successful():
    (run,) = json.loads(render_error(ArtifactError("x is damaged", "Again")))["runs"]
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 3)
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "x is damaged. Again"
    assert run["results"] == []
