"""A spectral radius is exact where it can be had, close where it is estimated, and put into true words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_export import spectrum
from rnn_export.spectrum import meaning, spectral_radius


@given(st.integers(1, 40), st.floats(0.01, 3.0), st.integers(0, 2**32 - 1))
def test_a_rotation_times_a_number_has_that_radius(H, scale, seed):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((H, H)))
    assert spectral_radius(turn * scale).value == pytest.approx(scale)


@settings(deadline=None, max_examples=10)
@given(st.integers(50, 150), st.integers(0, 2**32 - 1))
def test_an_estimate_is_within_two_percent(H, seed):
    matrix = np.random.default_rng(seed).standard_normal((H, H)) / np.sqrt(H)
    exact = spectral_radius(matrix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectrum, "EXACT_UP_TO", 10)
        estimate = spectral_radius(matrix)
    assert (exact.exact, estimate.exact) == (True, False)
    assert estimate.value == pytest.approx(exact.value, rel=0.02)


def test_a_matrix_whose_powers_vanish_has_radius_zero(monkeypatch):
    shift = np.eye(12, k=1)
    assert spectral_radius(shift).value == pytest.approx(0.0, abs=1e-12)
    monkeypatch.setattr(spectrum, "EXACT_UP_TO", 10)
    assert spectral_radius(shift) == (0.0, False)


def test_the_words_are_what_the_powers_do():
    assert "after about 66 steps" in meaning(0.9, "tanh")
    assert 0.9**65 > 1e-3 >= 0.9**66
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(2000, 1.06, np.float32), dtype=np.float32)
    first = int(np.argmax(powers > 2.0**127)) + 1
    assert f"from about {first:,} steps" in meaning(1.06, "relu")
    assert "can amplify" in meaning(2.0, "tanh")
    assert meaning(0.0, "tanh") == "the state forgets at once"
    assert meaning(1.0, "identity").startswith("neither")
