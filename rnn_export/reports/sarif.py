"""SARIF 2.1.0, for code scanning: every finding under the rule that is its code, with the explanation as help."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from rnn_export.errors import RnnExportError
from rnn_export.findings import FINDINGS
from rnn_export.report import Report
from rnn_export.reports import report_format
from rnn_export.result import Result
from rnn_export.summary import level_of, printable

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render_error(error: RnnExportError) -> str:
    notification = {"level": "error", "message": {"text": printable(str(error))}}
    return _log("", {"executionSuccessful": False, "toolExecutionNotifications": [notification]}, error.exit_code, [])


@report_format("sarif", suffix=".sarif", summary="SARIF 2.1.0", render_error=render_error)
def render(report: Report) -> str:
    version = report.environment.packages.get("rnn-export", "") if report.environment else ""
    ended = {"endTimeUtc": report.created} if report.created else {}
    rows = [row for row in report.results if row.code]
    found = [_result(report, row) for row in rows]
    return _log(version, {"executionSuccessful": True, **ended}, report.exit_code, found)


def _log(version: str, invocation: Mapping[str, Any], exit_code: int, results: Sequence[Mapping[str, Any]]) -> str:
    driver = {"name": "rnn-export", **({"version": version} if version else {}), "rules": _rules()}
    run = {
        "tool": {"driver": driver},
        "invocations": [{**invocation, "exitCode": exit_code}],
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rules() -> list[dict[str, Any]]:
    return [
        {
            "id": code,
            "shortDescription": {"text": finding.meaning.partition(". ")[0].rstrip(".") + "."},
            "fullDescription": {"text": finding.meaning},
            "help": {"text": f"{finding.meaning}\n\n{finding.remedy}"},
        }
        for code, finding in FINDINGS.items()
    ]


def _result(report: Report, row: Result) -> dict[str, Any]:
    where = "/".join(part for part in (row.runtime, row.case) if part)
    place = {"artifactLocation": {"uri": quote(printable(report.artifact), safe="")}}  # a colon in it is no scheme
    mark = hashlib.sha256(f"{row.code}\n{where}".encode(errors="replace")).hexdigest()
    measured = {name: value for name, value in row.to_dict().items() if value not in (None, "")}
    return {
        "ruleId": row.code,
        "level": level_of(report, row),
        "message": {"text": printable(f"{row.status.value} {where}: {row.detail or row.code}")},
        "locations": [{"physicalLocation": place, "logicalLocations": [{"fullyQualifiedName": printable(where)}]}],
        "partialFingerprints": {"rnnExport/v1": mark},
        "properties": measured,
    }
