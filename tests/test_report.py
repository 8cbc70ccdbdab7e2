"""A report is one model: JSON that has everything, and that is read back as it was or refused in words."""

import json
from dataclasses import replace

import pytest
from hypothesis import given

from rnn_export.errors import SourceError
from rnn_export.machine import Environment
from rnn_export.record import Placement, Record, Series
from rnn_export.report import SCHEMA, Report, read_report
from rnn_export.result import Status
from tests.rows import ROWS, report_of, row

KEYS = [
    "schema",
    "artifact",
    "form",
    "network",
    "results",
    "required",
    "demanded",
    "strict",
    "references",
    "named",
    "runtimes",
    "digest",
    "environment",
    "created",
    "verdicts",
    "summary",
    "exit_code",
]
WHOLE = report_of(
    row("a", Status.MISMATCH, residual=float("inf"), step=3, row=0, unit=2, layer=1, direction=0),
    demanded=frozenset({"a"}),
    strict=True,
    references=frozenset({"torch"}),
    named=True,
    runtimes=(
        Record("b"),
        Record(
            "a",
            "1.0",
            "TF32",
            Placement("CUDA", ("CUDA", "CPU"), {"CUDA": ("Scan a",), "CPU": ("Gather b",)}, tf32=True),
            Series("T=1", 800, 2, 4.0, (0.5, 7.0), None),
        ),
    ),
    digest="0" * 64,
    environment=Environment("CPython 3.11.7", "Linux x86_64", "a processor", 2, 1, {"numpy": "2.0"}),
    created="2026-01-31T12:00:00Z",
)


def as_json(report: Report) -> dict:
    return json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_it_has_the_keys_of_schema_2_in_their_order():
    found = report_of(row("a", Status.PASS)).to_dict()
    assert list(found) == KEYS
    assert (found["schema"], found["artifact"], found["form"], found["exit_code"]) == (2, "out", "scan", 0)
    assert found["verdicts"] == {"a": "PASS"}


@given(ROWS)
def test_it_is_json_and_its_summary_counts_every_row_once(rows):
    found = as_json(report_of(*rows))
    assert len(found["results"]) == len(rows) == sum(found["summary"].values())
    assert found["summary"]["passed"] == sum(result.passed for result in rows)
    assert found["summary"]["absent"] == sum(result.status is Status.ABSENT for result in rows)


def test_a_file_of_somebody_else_has_no_form():
    assert Report("x.onnx", None, "RNN", (), frozenset()).to_dict()["form"] is None


class TestReadingBack:
    def test_everything_comes_back_but_infinity_which_json_lacks(self):
        finite = replace(WHOLE, results=tuple(replace(one, residual=1.5) for one in WHOLE.results))
        assert Report.from_dict(as_json(finite)) == finite
        assert as_json(Report.from_dict(as_json(WHOLE))) == as_json(WHOLE)

    @given(ROWS)
    def test_any_rows_come_back_and_with_them_what_follows(self, rows):
        found = as_json(report_of(*rows))
        assert as_json(Report.from_dict(found)) == found

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"schema": SCHEMA + 1}, "has schema '3', not 2. A newer rnn-export wrote it; update this one"),
            ({"schema": 1}, "has schema '1', not 2. Verify again"),
            ({"schema": "two"}, "has schema 'two', not 2. Verify again"),
            ({"error": {}}, "of a verification that could not begin"),
            ({"results": 3}, "is damaged: results is '3', which is not what belongs there"),
            ({"results": [3]}, r"is damaged: results\[0\] is no object"),
            ({"results": [{}]}, r"is damaged: results\[0\].runtime is missing"),
            ({"strict": 1}, "is damaged: strict is '1'"),
            ({"digest": True}, "is damaged: digest is 'True'"),
            ({"environment": {"python": "3"}}, "is damaged: environment.platform is missing"),
        ],
    )
    def test_what_cannot_be_read_is_said_with_its_place(self, change, words):
        with pytest.raises(SourceError, match=words):
            Report.from_dict({**as_json(WHOLE), **change})

    @pytest.mark.parametrize("damage", [("status", "GOOD"), ("residual", "1.5"), ("step", 1.5), ("case", None)])
    def test_a_row_is_checked_field_by_field(self, damage):
        found = as_json(WHOLE)
        found["results"][0][damage[0]] = damage[1]
        with pytest.raises(SourceError, match=rf"results\[0\].{damage[0]} is "):
            Report.from_dict(found)

    @pytest.mark.parametrize("data", [None, [], {}, {"results": []}])
    def test_what_is_no_result_is_called_none(self, data):
        with pytest.raises(SourceError, match="no result of rnn-export: it has no schema"):
            Report.from_dict(data)

    def test_a_file_is_read_or_refused_by_name(self, tmp_path):
        place = tmp_path / "result.json"
        with pytest.raises(SourceError, match=r"result\.json cannot be read: No such file"):
            read_report(place)
        for text in (b"no json", b"\xff", b"[" * 100_000):
            place.write_bytes(text)
            with pytest.raises(SourceError, match=r"result\.json is no JSON\. Write it with verify --report"):
                read_report(place)
        place.write_text("{}")
        with pytest.raises(SourceError, match=r"result\.json: this is no result of rnn-export"):
            read_report(place)
        place.write_text(json.dumps(as_json(WHOLE)))
        assert as_json(read_report(place)) == as_json(WHOLE)
