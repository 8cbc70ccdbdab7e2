"""The cases are the ones that the verdict's page asks for, the same in every run, and each stands alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.cases import (
    EXPORT_B,
    EXPORT_T,
    LONG_T,
    Case,
    Check,
    case_from_file,
    default_cases,
    input_of_kind,
    of_two_shapes,
)
from rnn_export.element_types import FLOATS
from rnn_export.errors import SourceError
from rnn_export.rounding import ARITHMETICS
from rnn_export.spec import RNNSpec
from tests.strategies import every_spec

SPEC = RNNSpec(3, 4)
SIZES = st.one_of(st.none(), st.integers(1, 7))


def by_name(cases: list[Case]) -> dict[str, Case]:
    return {case.name: case for case in cases}


def same(first: Case, second: Case) -> bool:
    return np.array_equal(first.x, second.x, equal_nan=True) and np.array_equal(first.h_0, second.h_0)


def test_every_length_around_the_exported_one_meets_every_batch():
    steps = [case for case in default_cases(SPEC, "float32") if case.check is Check.STEPS]
    plain = {(case.T, case.B) for case in steps if case.name == f"T={case.T} B={case.B}"}
    e = EXPORT_T
    assert plain == {(T, B) for T in (1, 2, e - 1, e, e + 1, 2 * e, LONG_T) for B in (1, EXPORT_B, 8)}
    assert (EXPORT_T, EXPORT_B, LONG_T) == (5, 3, 400)


def test_every_check_and_every_kind_of_input_is_asked_for():
    cases = default_cases(SPEC, "float32")
    assert {case.check for case in cases} == set(Check)
    kinds = {case.name.split()[0] for case in cases}
    assert kinds >= {"one-hot", "uniform", "negative", "zeros", "tiny", "large", "h_0=0", "NaN", "Inf"}


class TestOfTwoShapes:
    @pytest.mark.parametrize(
        ("fixed", "sizes"),
        [
            ({}, ["T=5 B=3", "T=6 B=8"]),
            ({"fixed_T": 7}, ["T=7 B=3", "T=7 B=8"]),
            ({"fixed_B": 2}, ["T=5 B=2", "T=6 B=2"]),
            ({"fixed_T": 7, "fixed_B": 2}, ["T=7 B=2"]),
            ({"has_lengths": True}, ["T=5 B=3", "T=6 B=8", "T=10 B=3"]),  # the last is NaN in the padding
        ],
        ids=str,
    )
    def test_they_have_two_lengths_and_two_batches_where_those_are_free(self, fixed, sizes):
        kept = of_two_shapes(default_cases(SPEC, "float32", **fixed))
        assert list(dict.fromkeys(case.size for case in kept)) == sizes

    def test_they_exercise_the_recurrence_and_have_every_kind_of_input(self):
        cases = default_cases(SPEC, "float32")
        kept = of_two_shapes(cases)
        first, second = kept[:2]
        assert (first.name, second.name) == ("T=5 B=3", "T=6 B=8")
        assert all(case.T > 1 and case.h_0.any() and (case.x < 0).any() for case in (first, second))
        kinds = ("one-hot", "uniform", "negative", "zeros", "tiny", "large", "h_0=0", "NaN", "Inf", "state")
        assert [case.name.split()[0] for case in kept[2:]] == list(kinds)
        assert all(any(case is other for other in cases) for case in kept)

    def test_the_users_own_data_stays_whatever_its_shape(self):
        own = Case("mine.npz T=9 B=2", *(np.ones(shape, np.float32) for shape in ((9, 2, 3), (1, 2, 4))), own="mine")
        assert of_two_shapes([own, *default_cases(SPEC, "float32")])[0] is own


@pytest.mark.parametrize("spec", every_spec(), ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_shapes_and_types_fit_every_network(spec, dtype):
    for case in default_cases(spec, dtype):
        assert case.x.shape == (case.T, case.B, spec.input_size)
        assert case.h_0.shape == (spec.num_layers * spec.num_directions, case.B, spec.hidden_size)
        assert (case.x.dtype.name, case.h_0.dtype.name) == (dtype, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_users_own_data_must_fit_the_type_of_the_network(tmp_path, dtype):
    x, file = np.array([[[1.5, np.inf, 3.0]]]), tmp_path / "own.npz"
    np.savez(file, input=x, h_0=np.full((1, 1, 4), 0.25, dtype))  # bfloat16 as numpy itself writes it
    found = case_from_file(file, SPEC, dtype, has_lengths=False)
    assert (found.x.dtype, found.h_0.dtype) == (dtype, dtype)
    assert found.x.tolist() == x.tolist()
    assert (found.h_0 == 0.25).all()
    np.savez(file, input=np.full((1, 1, 3), 1e39))
    with pytest.raises(SourceError, match=rf"input in own\.npz reaches 1e\+39, which {dtype} cannot hold"):
        case_from_file(file, SPEC, dtype, has_lengths=False)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_extremes_are_those_of_the_type(dtype):
    """Tiny inputs are there and lie far below 1; large ones are finite, and their sums too."""
    cases = by_name(default_cases(RNNSpec(64, 4), dtype))
    tiny, large = (cases[f"{kind} T=5 B=3"].x.astype(np.float64) for kind in ("tiny", "large"))
    assert 0 < np.abs(tiny).max() < 1e-5
    assert np.abs(large).max() > 1e3
    assert np.abs(large).sum(axis=-1).max() / 8 < ARITHMETICS[dtype].overflow


@given(st.sampled_from(every_spec()), SIZES, SIZES, st.booleans())
def test_names_are_unique_and_sizes_that_the_file_fixes_are_kept(spec, fixed_T, fixed_B, has_h_0):
    cases = default_cases(spec, "float32", fixed_T, fixed_B, has_h_0)
    assert len(by_name(cases)) == len(cases)
    assert fixed_T is None or {case.T for case in cases} == {fixed_T}
    assert fixed_B is None or {case.B for case in cases} == {fixed_B}


@given(st.sampled_from(every_spec()), st.booleans())
def test_the_recurrence_is_exercised_from_a_state_and_by_negative_inputs(spec, fixed_batch):
    cases = default_cases(spec, "float32", None, 2 if fixed_batch else None)
    assert any(case.check is Check.STEPS and case.T > 1 and case.h_0.all() and (case.x < 0).any() for case in cases)


def test_two_makings_are_equal_and_no_case_changes_another():
    cases, again = default_cases(SPEC, "float32"), default_cases(SPEC, "float32")
    assert all(same(first, second) for first, second in zip(cases, again, strict=True))
    fewer = by_name(default_cases(SPEC, "float32", fixed_B=EXPORT_B))
    common = set(fewer) & set(by_name(cases))
    assert len(common) > 10
    assert all(same(fewer[name], by_name(cases)[name]) for name in common)


def test_two_cases_of_one_size_have_inputs_of_their_own():
    cases = [case for case in default_cases(SPEC, "float32") if (case.T, case.B) == (5, 3)]
    assert len({case.h_0.tobytes() for case in cases if case.h_0.any()}) == sum(case.h_0.any() for case in cases)


def test_a_file_without_a_state_is_run_from_zeros_and_asked_nothing_about_it():
    cases = default_cases(SPEC, "float32", has_h_0=False)
    assert not any(case.h_0.any() for case in cases)
    assert {case.check for case in cases} == set(Check) - {Check.STATE, Check.NO_STEPS, Check.CHUNKS}


def test_a_fixed_length_has_no_chunks_and_no_empty_sequence():
    checks = {case.check for case in default_cases(SPEC, "float32", fixed_T=6)}
    assert checks == set(Check) - {Check.CHUNKS, Check.NO_STEPS}


def test_a_fixed_batch_has_no_empty_one_and_no_rows_of_its_own():
    checks = {case.check for case in default_cases(SPEC, "float32", fixed_B=2)}
    assert checks == set(Check) - {Check.SHAPES, Check.ROWS}


def test_two_directions_cannot_be_chunked():
    checks = {case.check for case in default_cases(RNNSpec(3, 4, bidirectional=True), "float32")}
    assert checks == set(Check) - {Check.CHUNKS}


def test_a_case_of_a_masks_check_has_exactly_one_value_that_is_not_finite_and_later_steps():
    for case in default_cases(SPEC, "float32"):
        broken = np.argwhere(~np.isfinite(case.x))
        assert len(broken) == (case.check is Check.MASKS)
        if len(broken):
            t, b, _ = broken[0]
            assert (b, t < case.T - 1) == (0, True)


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("one-hot", lambda x: bool((x.sum(-1) == 1).all() and set(np.unique(x)) == {0, 1})),
        ("uniform", lambda x: bool((x >= 0).all() and (x < 1).all() and x.any())),
        ("negative", lambda x: bool((x <= 0).all() and (x < 0).any())),
        ("zeros", lambda x: not x.any()),
        ("tiny", lambda x: bool(0 < np.abs(x).max() < 1e-28)),
        ("large", lambda x: bool(1e29 < np.abs(x).max() < 1e32 and np.isfinite(x.astype(np.float32)).all())),
        ("nan", lambda x: int(np.isnan(x).sum()) == 1),
        ("inf", lambda x: int(np.isinf(x).sum()) == 1),
        ("normal", lambda x: bool((x < 0).any() and (x > 0).any())),
    ],
)
@pytest.mark.parametrize("shape", [(5, 3, 4), (2, 1, 4), (40, 2, 3)])
def test_an_input_is_of_its_kind(kind, holds, shape):
    x = input_of_kind(kind, shape, np.random.default_rng(0))
    assert x.shape == shape
    assert holds(x)


@pytest.mark.parametrize("kind", ["normal", "one-hot", "uniform", "nan", "inf", "large"])
@pytest.mark.parametrize("shape", [(0, 3, 4), (5, 0, 4), (0, 0, 4)])
def test_an_empty_input_of_any_kind_is_empty(kind, shape):
    assert input_of_kind(kind, shape, np.random.default_rng(0)).shape == shape
