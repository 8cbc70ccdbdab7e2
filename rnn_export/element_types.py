"""The floating-point types that a network may have. numpy lacks bfloat16: ml_dtypes teaches it the name."""

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

FLOATS = ("float32", "float64", "float16", "bfloat16")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BITS = np.dtype("V2")  # as numpy itself writes a bfloat16 array: two bytes without a meaning


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """numpy's name of a type, which numpy itself spells anew whenever it is asked, in 2 us."""
    return dtype.name


def from_bits(array: NDArray[Any]) -> NDArray[Any]:
    """bfloat16 where the array holds its bits; any other array as it is."""
    return array.view(BFLOAT16) if array.dtype == BITS else array


def rounded(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The array in another type, every value rounded once, to nearest, ties to even; too large ones to infinity."""
    with np.errstate(over="ignore"):
        if dtype != "bfloat16" or array.dtype != np.float64:
            return array.astype(dtype)
        # ml_dtypes goes through float32, which would round twice. Rounding to odd there (Boldo and Melquiond,
        # Emulation of a FMA and correctly rounded sums, 2008) keeps on which side of a tie the value lies.
        single = array.astype(np.float32)
        inexact = (single != array) & np.isfinite(single)
        away = np.abs(single) > np.abs(array)
        bits = (single.view(np.uint32) - (inexact & away)) | inexact
        narrow: NDArray[Any] = bits.view(np.float32).astype(BFLOAT16)
        return narrow
