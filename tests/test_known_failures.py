"""A known failure excuses its own rows and no others, and is reported once it is none."""

import pytest

from rnn_export.known_failures import KnownFailure, exit_code_beside, why_stale
from rnn_export.report import Report
from rnn_export.result import Result, Stage, Status

PADDING = KnownFailure("here", "a", "it is so", code="padding")


def row(runtime: str, case: str, status: Status = Status.PASS, code: str = "") -> Result:
    return Result(runtime, "1.0", case, Stage.COMPARE, status, code)


def report(*rows: Result, strict: bool = False) -> Report:
    required = frozenset(row.runtime for row in rows)
    return Report("net", "scan", "RNN", rows, required, required, strict, named=True)


WRONG = row("a", "T=6", Status.MISMATCH, "padding")
OTHER = row("a", "T=6", Status.MISMATCH, "step-residual")
REFUSED = row("a", "", Status.REFUSED, "refused")
CRASHED = row("a", "T=9", Status.CRASHED, "crashed")
ABSENT = row("a", "", Status.ABSENT, "absent")
DIFFERS = row("a", "T=0", Status.DIVERGENCE, "no-steps")
RIGHT = row("a", "T=1")


class TestExitCode:
    @pytest.mark.parametrize(
        ("rows", "known", "code"),
        [
            ((RIGHT, WRONG), [], 1),
            ((RIGHT, WRONG), [PADDING], 0),
            ((RIGHT, WRONG, OTHER), [PADDING], 1),
            ((RIGHT, WRONG, CRASHED), [PADDING], 4),
            ((WRONG,), [PADDING], 0),
            ((WRONG, row("b", "T=1")), [PADDING], 0),
            ((WRONG, row("b", "T=6", Status.MISMATCH, "padding")), [PADDING], 1),
            ((WRONG, row("file", "", Status.MISMATCH, "weights")), [PADDING], 1),
            ((REFUSED,), [KnownFailure("here", "a", "", code="refused")], 0),
            ((RIGHT, CRASHED), [KnownFailure("here", "a", "", case="T=9")], 0),
            ((RIGHT, CRASHED), [KnownFailure("here", "a", "", case="T=9", code="timeout")], 4),
            ((ABSENT,), [PADDING], 4),
            ((ABSENT,), [KnownFailure("here", "a", "", code="absent")], 4),
        ],
    )
    def test_it_is_that_of_the_rows_that_are_not_known(self, rows, known, code):
        assert exit_code_beside(report(*rows), known) == code

    def test_a_difference_counts_under_strict_only_and_can_be_known(self):
        known = KnownFailure("here", "a", "", code="no-steps")
        assert exit_code_beside(report(RIGHT, DIFFERS), []) == 0
        assert exit_code_beside(report(RIGHT, DIFFERS, strict=True), []) == 1
        assert exit_code_beside(report(RIGHT, DIFFERS, strict=True), [known]) == 0


class TestStale:
    def test_what_occurs_is_not(self):
        assert why_stale(PADDING, [(report(RIGHT, WRONG), [PADDING])]) == ""
        assert why_stale(PADDING, [(report(RIGHT), [PADDING]), (report(RIGHT, WRONG), [PADDING])]) == ""

    def test_what_occurs_nowhere_is(self):
        seen = [(report(RIGHT), [PADDING]), (report(RIGHT, DIFFERS), [PADDING])]
        assert why_stale(PADDING, seen) == "it passes now"

    def test_a_case_that_does_not_exist_is_said_with_those_that_do(self):
        known = KnownFailure("here", "a", "", case="T=66")
        assert why_stale(known, [(report(RIGHT, row("a", "T=6")), [known])]) == "no such case ran; there are T=1, T=6"
        known = KnownFailure("here", "a", "", case="T=6")
        assert why_stale(known, [(report(RIGHT, row("a", "T=6")), [known])]) == "it passes now"

    @pytest.mark.parametrize("rows", [(ABSENT,), (REFUSED,), (RIGHT, CRASHED), (RIGHT, OTHER)])
    def test_nobody_can_tell_where_it_did_not_run_or_fails_in_another_way(self, rows):
        assert why_stale(PADDING, [(report(*rows), [PADDING])]) == ""

    def test_another_known_failure_hides_nothing(self):
        other = KnownFailure("here", "a", "", code="step-residual")
        assert why_stale(PADDING, [(report(RIGHT, OTHER), [PADDING, other])]) == "it passes now"

    def test_another_runtimes_failure_is_another_matter(self):
        seen = [(report(RIGHT, row("b", "T=6", Status.MISMATCH, "padding")), [PADDING])]
        assert why_stale(PADDING, seen) == "it passes now"


def test_it_is_about_every_network_and_form_that_it_does_not_leave_out():
    assert PADDING.covers("any", "scan")
    known = KnownFailure("here", "a", "", code="padding", network="net", form="rnn")
    assert known.covers("net", "rnn")
    assert not known.covers("net", "scan")
    assert not known.covers("another", "rnn")
