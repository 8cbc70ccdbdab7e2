"""The exit code follows the page whatever the rows are, and a row is JSON whatever its numbers are."""

import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.result import Result, Stage, Status, exit_code

RUNTIMES = ("a", "b", "c")
WRONG = [Status.MISMATCH, Status.FALLBACK, Status.REFUSED]
FAILED = [Status.CRASHED, Status.TIMEOUT, Status.MEMORY, Status.BROKEN]
NUMBERS = st.one_of(st.none(), st.floats())


def row(runtime: str, status: Status) -> Result:
    return Result(runtime, "1", "case", Stage.COMPARE, status)


ROWS = st.lists(st.builds(row, st.sampled_from([*RUNTIMES, "file"]), st.sampled_from(Status)), max_size=6)
NAMES = st.frozensets(st.sampled_from(RUNTIMES))


@pytest.mark.parametrize(
    ("status", "plain", "strict", "demanded"),
    [
        (Status.PASS, 0, 0, 0),
        (Status.MISMATCH, 1, 1, 1),
        (Status.DIVERGENCE, 5, 1, 5),
        (Status.FALLBACK, 1, 1, 1),
        (Status.REFUSED, 1, 1, 1),
        (Status.CRASHED, 4, 4, 4),
        (Status.TIMEOUT, 4, 4, 4),
        (Status.MEMORY, 4, 4, 4),
        (Status.BROKEN, 4, 4, 4),
        (Status.ABSENT, 5, 5, 4),
    ],
)
def test_every_status_alone_has_its_code(status, plain, strict, demanded):
    rows, required = [row("a", status)], frozenset("a")
    assert exit_code(rows, required, frozenset(), False) == plain
    assert exit_code(rows, required, frozenset(), True) == strict
    assert exit_code(rows, required, required, False) == demanded


@pytest.mark.parametrize("first", WRONG)
@pytest.mark.parametrize("second", FAILED)
def test_wrong_outranks_failed(first, second):
    assert exit_code([row("a", second), row("b", first)], frozenset("ab"), frozenset(), False) == 1


def test_a_divergence_beside_a_pass_is_a_pass_unless_strict():
    rows = [row("a", Status.PASS), row("a", Status.DIVERGENCE)]
    assert exit_code(rows, frozenset("a"), frozenset(), False) == 0
    assert exit_code(rows, frozenset("a"), frozenset(), True) == 1


def test_nothing_checked_is_never_a_pass():
    assert exit_code([], frozenset("a"), frozenset(), False) == 5
    assert exit_code([row("file", Status.PASS)], frozenset(), frozenset(), False) == 5
    assert exit_code([row("b", Status.PASS)], frozenset("a"), frozenset(), False) == 5


def test_a_wrong_file_counts_whoever_is_required():
    assert exit_code([row("file", Status.MISMATCH), row("a", Status.PASS)], frozenset("a"), frozenset(), False) == 1


def test_every_required_runtime_has_to_have_passed_something():
    """Named by --runtime and absent, or with documented differences only: nothing of it was checked."""
    absent = [row("a", Status.PASS), row("b", Status.ABSENT)]
    differing = [row("a", Status.PASS), row("b", Status.DIVERGENCE)]
    assert exit_code(absent, frozenset("ab"), frozenset(), False) != 0
    assert exit_code(differing, frozenset("ab"), frozenset(), False) != 0


@given(ROWS, NAMES, NAMES, st.booleans())
def test_zero_means_that_something_required_passed_and_nothing_required_is_wrong(rows, required, demanded, strict):
    counted = [result for result in rows if result.runtime in required or result.runtime == "file"]
    code = exit_code(rows, required, demanded, strict)
    assert code in (0, 1, 4, 5)
    if code == 0:
        assert any(result.passed and result.runtime != "file" for result in counted)
        assert not {result.status for result in counted} & {*WRONG, *FAILED}
        assert not strict or Status.DIVERGENCE not in {result.status for result in counted}
        assert not any(result.status is Status.ABSENT and result.runtime in demanded for result in rows)


@given(ROWS, NAMES, NAMES)
def test_strict_never_makes_a_verdict_better(rows, required, demanded):
    plain, strict = (exit_code(rows, required, demanded, asked) for asked in (False, True))
    assert strict == plain or strict == 1


@given(ROWS, NAMES, NAMES, st.booleans())
def test_the_order_of_rows_and_the_rows_of_others_change_nothing(rows, required, demanded, strict):
    code = exit_code(rows, required, demanded, strict)
    assert exit_code(rows[::-1], required, demanded, strict) == code
    others = [row("somebody else", status) for status in Status]
    assert exit_code([*rows, *others], required, demanded, strict) == code


@given(NUMBERS, NUMBERS, NUMBERS, st.text(), st.sampled_from(Stage), st.sampled_from(Status))
def test_a_row_is_json_without_nan_and_infinity(residual, max_abs, ratio, text, stage, status):
    result = Result("a", text, text, stage, status, text, residual, None, max_abs, ratio, text)
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert list(found) == [
        "runtime",
        "version",
        "case",
        "stage",
        "status",
        "code",
        "residual",
        "precision",
        "max_abs",
        "ratio",
        "detail",
        "step",
        "row",
        "unit",
        "layer",
        "direction",
    ]
    assert (found["stage"], found["status"], found["detail"]) == (stage.value, status.value, text)
    for name, number in (("residual", residual), ("max_abs", max_abs), ("ratio", ratio)):
        if number is None:
            assert found[name] is None
        elif math.isfinite(number):
            assert found[name] == number
        else:
            assert found[name] == sys.float_info.max


def test_only_a_pass_has_passed():
    assert [status for status in Status if row("a", status).passed] == [Status.PASS]
