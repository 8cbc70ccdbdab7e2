"""What many rows come to: levels that follow the exit code, and a placement in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.record import Placement, Record
from rnn_export.result import Status
from rnn_export.summary import LEVELS, findings_of, level_of, placement_words, printable
from tests.rows import ROWS, report_of, row

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@given(ROWS, st.booleans())
def test_an_error_is_what_makes_the_exit_code(rows, strict):
    report = report_of(*rows, strict=strict)
    levels = {level_of(report, one) for one in rows}
    assert levels <= set(LEVELS)
    if "error" in levels:
        assert report.exit_code != 0
    if report.exit_code in (1, 4):
        assert "error" in levels


def test_a_finding_is_as_grave_as_its_gravest_row():
    rows = row("b", Status.MISMATCH, "T=1", "wrong"), row("a", Status.MISMATCH, "T=1", "wrong")
    (finding,) = findings_of(rows)
    assert finding.level_in(report_of(*rows)) == "error"
    (finding,) = findings_of(rows[:1])
    assert finding.level_in(report_of(*rows)) == "warning"  # b is not required


@pytest.mark.parametrize(
    ("placement", "precision", "words"),
    [
        (None, "float32", ("", "", "", "")),
        (
            Placement(CPU, (CPU,), {CPU: ("Scan a", "Gather b")}),
            "float32",
            (CPU, f"2 on {CPU}", "nothing", "no such option"),
        ),
        (Placement(CPU, (CPU,)), "float32", (CPU, "this version cannot tell", "nothing", "no such option")),
        (
            Placement(CUDA, (CUDA, CPU), {CUDA: ("Scan a",), CPU: ("b", "c", "d", "e")}, tf32=True),
            "TF32",
            (CUDA, f"1 on {CUDA}, 4 on {CPU}", f"b, c, d and 1 more on {CPU}", "asked on, session on"),
        ),
        (
            Placement(CUDA, (CPU,), {}, tf32=False),
            "float32",
            (CUDA, "this version cannot tell", f"everything: the session has {CPU}", "asked off, session off"),
        ),
    ],
)
def test_a_placement_in_words(placement, precision, words):
    assert placement_words(Record("a", "1", precision, placement)) == words


def test_what_is_no_character_is_a_question_mark():
    assert printable("a\n\x1b[2J\ud800é✓") == "a??[2J?é✓"
