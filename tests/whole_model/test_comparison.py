"""Outputs against the model's own: no NaN and no infinity of torch's hides a wrong element beside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rnn_export.whole_model.comparison import compare
from rnn_export.whole_model.truth import Expected

OVERFLOWS = [(np.inf, 1e39), (-np.inf, -1e39), (np.nan, 2.0), (np.inf, np.inf), (np.nan, np.nan), (1.0, np.nan)]


def code_of(ours: object, own: object, truth: object) -> str:
    floats = [np.asarray(values, np.float32) for values in (ours, own)]
    return compare(floats[:1], Expected([np.asarray(truth, np.float64)], floats[1:]))[0].code


@given(
    finite=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6),
    lost=st.lists(st.sampled_from(OVERFLOWS), max_size=4),
    wrong=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_a_wrong_element_is_found_whatever_torch_cannot_hold_beside_it(
    finite: list[float], lost: list[tuple[float, float]], wrong: int, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(finite) + len(lost))
    own: NDArray[np.float32] = np.array([*finite, *(pair[0] for pair in lost)], np.float32)
    truth = np.array([*finite, *(pair[1] for pair in lost)]) * (1 + 2.0**-26)
    assert code_of(own[order], own[order], truth[order]) == ""
    changed = own.copy()
    changed[wrong % len(finite)] += 1 + np.abs(own[: len(finite)]).max() / 100
    assert code_of(changed[order], own[order], truth[order]) == "end-to-end"


@pytest.mark.parametrize(
    ("own", "truth", "right"),
    [
        (np.inf, 1e39, [np.inf]),
        (-np.inf, -1e39, [-np.inf]),
        (np.nan, 2.0, [np.nan, 2.0]),
        (np.inf, np.inf, [np.inf]),
        (np.nan, np.nan, [np.nan]),
        (1.0, np.nan, [1.0, np.nan]),
    ],
)
def test_where_torch_is_not_finite_a_runtime_sides_with_either(own: float, truth: float, right: list[float]) -> None:
    for ours in (np.inf, -np.inf, np.nan, 1.0, 2.0, 3.0, -7e30):
        accepted = any(np.array_equal(ours, one, equal_nan=True) for one in right)
        assert code_of([ours, 1.0], [own, 1.0], [truth, 1.0]) == ("" if accepted else "end-to-end"), ours


def test_a_value_at_the_edge_of_the_type_may_overflow_or_not() -> None:
    edge = float(np.finfo(np.float32).max)
    assert code_of([edge, 1.0], [np.inf, 1.0], [edge * (1 + 2.0**-24), 1.0]) == ""
    assert code_of([edge / 2, 1.0], [np.inf, 1.0], [edge, 1.0]) == "end-to-end"


@pytest.mark.parametrize(("own", "truth"), OVERFLOWS)
def test_an_output_of_which_nothing_is_finite_is_no_pass(own: float, truth: float) -> None:
    assert code_of([own, own], [own, own], [truth, truth]) == "not-judged"
    assert code_of([4.0, own], [own, own], [truth, truth]) == "end-to-end"


def test_what_is_lost_is_said_and_an_empty_output_has_nothing_wrong() -> None:
    own, truth = np.array([np.inf, 1.0], np.float32), np.array([1e39, 1.0])
    empty = np.zeros((0, 3), np.float32)
    judgement, ratio = compare([own, empty], Expected([truth, empty.astype(np.float64)], [own, empty]))
    assert (judgement.code, ratio) == ("", 0.0)
    assert judgement.notes[0].startswith("torch has no finite value for 1 of 2 elements of output 0")
