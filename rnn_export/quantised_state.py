"""A state as 8-bit integers, block by block: what MatMulNBits multiplies at accuracy_level 4, in float64.

Of every BLOCK units of a row, with the scale s = max|h| / 127 in float32, each h becomes the nearest integer to h / s,
in -127..127. The products of a block are added as integers, exactly, and the blocks in float32. Weights are stored as
unsigned numbers: kernels add each block as if its weights were 128 larger, and take that away at the end, so that what
they add may be much larger than what is left of it.

Source: QuantizeARow_CompInt8 and SQ8BitGemm in onnxruntime/core/mlas/lib; measured on 1.32, see docs/decisions/0014.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # units with one scale: OpenVINO's own too; larger ones are coarser, and little faster
LEVELS = 127  # integers on either side of 0: -128 is left out, so that rounding is symmetric
ZERO_POINT = 128  # what is stored for the weight 0, where a file gives no other: the default of MatMulNBits
# How near to the middle of two integers h / s goes either way, in units of 2**-24 * |h / s|: kernels compute it as
# h * (127 / max) or as h / s, each with two roundings, and differ in where they round a tie to.
TIE = 4.0
# Below it 127 / max is infinite in float32, and what kernels make of that is any integer.
SMALLEST = 2.0**-120
OVERFLOW = 2.0**127  # half of what float32 holds

Array = NDArray[np.float64]


class QuantisedState(NamedTuple):
    """States as a kernel multiplies them.

    Attributes:
        values: (..., H), the integers times their block's scale; a row that is not finite as it is.
        unsure: (..., H), how far a kernel's value may be from it: the scale where it may take the integer beside it.
    """

    values: Array
    unsure: Array


def quantised_state(h: Array) -> QuantisedState:
    """The states h (..., H), each row quantised by itself."""
    H = h.shape[-1]
    blocks = in_blocks(h)  # (..., blocks, BLOCK)
    largest = np.abs(blocks).max(-1, keepdims=True, initial=0.0)
    with np.errstate(all="ignore"):
        scale = (largest.astype(np.float32) / np.float32(LEVELS)).astype(np.float64)
        exact = np.where(largest > 0, blocks * LEVELS / largest, 0.0)
        middle = np.abs(np.abs(exact - np.trunc(exact)) - 0.5)
        unsure = np.where(middle <= TIE * 2.0**-24 * np.abs(exact), scale, 0.0)
        unsure = np.where(largest < SMALLEST, 2 * largest, unsure)
        values = np.rint(exact) * scale
    flat = (*h.shape[:-1], -1)
    finite = np.isfinite(h).all(-1, keepdims=True)
    return QuantisedState(
        np.where(finite, values.reshape(flat)[..., :H], h), np.where(finite, unsure.reshape(flat)[..., :H], 0.0)
    )


def zero_points(weight_hh: Array) -> Array:
    """(H, blocks): what a kernel adds too much for each unit of a block's sum, from dequantised weights (H, H)."""
    largest: Array = np.abs(in_blocks(weight_hh)).max(-1, initial=0.0)
    return largest * (ZERO_POINT / LEVELS)


class Excess(NamedTuple):
    """What a kernel adds too much on the way, in units of the sums themselves; inf where float32 cannot hold it.

    Attributes:
        size: (..., H), how much larger it makes what is added.
        rms: (..., H), of the partial sums that come of it alone.
    """

    size: Array
    rms: Array


def zero_point_excess(values: Array, zeros: Array) -> Excess:
    """Of quantised states (..., H).

    With c the zero point times the sum of a block's states: the sums over the blocks grow to E = sum c and go back to
    what is right, each in eight parts or more that are added last, for which (2 blocks + 8)/3 * E**2. Within a block
    the parts go up and down: blocks * V, with V the sum of c**2 and of the same with each state squared.
    """
    blocks = in_blocks(values)
    sums = blocks.sum(-1)
    size = np.abs(sums) @ zeros.T
    V = (sums**2 + (blocks**2).sum(-1)) @ (zeros**2).T
    rms = np.sqrt((2 * zeros.shape[1] + 8) / 3 * (sums @ zeros.T) ** 2 + zeros.shape[1] * V) + np.sqrt(V)
    total = np.abs(blocks).sum(-1)  # no part of a sum is larger
    size[(total @ zeros.T >= OVERFLOW) | (total >= OVERFLOW).any(-1, keepdims=True)] = np.inf
    return Excess(size, rms)


def in_blocks(array: NDArray[np.floating]) -> NDArray[np.floating]:
    """(..., K) as (..., blocks, BLOCK), the last block filled up with zeros."""
    short = -array.shape[-1] % BLOCK
    padded = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, short)]) if short else array
    return padded.reshape(*array.shape[:-1], -1, BLOCK)
