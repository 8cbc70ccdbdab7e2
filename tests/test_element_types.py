"""Every conversion rounds once, to nearest, ties to even, and bfloat16 survives as bits."""

import io
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.element_types import BFLOAT16, BITS, FLOATS, from_bits, rounded
from tests.strategies import as_array

# (mantissa bits with the hidden one, least exponent of a subnormal, largest exponent)
FORMATS = {"float32": (24, -149, 127), "float16": (11, -24, 15), "bfloat16": (8, -133, 127)}


def nearest(value: float, dtype: str) -> float:
    """The value of that type that is nearest, in exact arithmetic: Python's round goes to even."""
    digits, least, largest = FORMATS[dtype]
    exponent = max(math.frexp(value)[1] - digits, least)
    exact = round(Fraction(value) / Fraction(2) ** exponent) * Fraction(2) ** exponent
    return math.copysign(math.inf if abs(exact) >= Fraction(2) ** (largest + 1) else abs(float(exact)), value)


@pytest.mark.parametrize("dtype", FORMATS)
@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_a_double_is_rounded_once(dtype, value):
    assert float(rounded(np.array([value]), dtype)[0]) == nearest(value, dtype)


@pytest.mark.parametrize("dtype", FORMATS)
@given(st.integers(-200, 140), st.integers(0, 2**12), st.sampled_from([-1, 0, 1]), st.integers(13, 52))
def test_beside_a_tie_too(dtype, exponent, steps, side, bits):
    """Values at and just beside the middle between two neighbours, where rounding twice goes wrong."""
    value = float(np.ldexp(1 + steps * 2.0**-12 + side * 2.0**-bits, exponent))
    assert float(rounded(np.array([value]), dtype)[0]) == nearest(value, dtype)


def test_what_would_round_twice_through_float32():
    value = np.array([1 + 2.0**-8 + 2.0**-40])
    assert value.astype(np.float32).astype(BFLOAT16) == 1
    assert rounded(value, "bfloat16") == 1 + 2.0**-7


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("source", ["float32", "float16", "bfloat16"])
def test_the_narrow_types_are_converted_as_torch_does(source, dtype):
    values = torch.randn(4000) * 2.0 ** torch.randint(-20, 16, (4000,))
    given = values.to(getattr(torch, source))
    np.testing.assert_array_equal(rounded(as_array(given), dtype), as_array(given.to(getattr(torch, dtype))))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0])
def test_what_is_not_finite_and_the_zeros_stay(value):
    found = rounded(np.array([value]), "bfloat16").astype(np.float64)
    assert found.tobytes() == np.array([value]).tobytes()


def test_bfloat16_is_recognised_as_numpy_itself_writes_it():
    array, stream = np.array([1.5, -2.0], BFLOAT16), io.BytesIO()
    np.save(stream, array)
    stream.seek(0)
    found = np.load(stream)
    assert found.dtype == BITS
    assert from_bits(found).tobytes() == array.tobytes()
    assert from_bits(found).dtype == BFLOAT16


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "V4"])
def test_other_arrays_are_left_alone(dtype):
    array = np.zeros(3, dtype)
    assert from_bits(array) is array
