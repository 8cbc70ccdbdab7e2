"""Which arithmetic a run really used, where it was not the one that was asked for.

First hypotheses: the residual again, with the operands rounded as each arithmetic rounds them; the first that
explains every step is the answer. Else by band: rho, the rms of r relative to one rounding.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from rnn_export.element_types import name_of
from rnn_export.residual import GATE, Residual, step_residual
from rnn_export.rounding import ARITHMETICS, FLOAT32, INT8, Arithmetic, Array
from rnn_export.sequences import Sequence, stretches
from rnn_export.weights import Cell

PRODUCTS = ("TF32", "bfloat16")  # computed by hardware whose accumulator differs from ours
EXPLAINS = 30.0  # such a hypothesis is named if it lowers max q this much
# rho of 300 networks: 10-bit 700 to 9,600, bfloat16 8,300 to 36,300, int8 4,400 to 148,000
BANDS = (
    (600.0, "float32"),
    (9_000.0, "10-bit (TF32, float16)"),
    (33_000.0, "bfloat16"),
    (150_000.0, "coarser"),
)
SPREAD = 0.25  # an arithmetic moves most elements; a fault that moves few is no arithmetic


def keep_bits(bits: int, nearest: bool = True) -> Callable[[Array], Array]:
    """Round float32 values to ``bits`` explicit mantissa bits, to nearest even or towards zero."""
    dropped = 23 - bits

    def rounded(values: Array) -> Array:
        raw = values.astype(np.float32).view(np.uint32)
        if nearest:
            raw = raw + np.uint32((1 << (dropped - 1)) - 1) + ((raw >> np.uint32(dropped)) & np.uint32(1))
        kept = (raw & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)
        return np.where(np.isfinite(values), kept, values).astype(np.float64)

    return rounded


def _float16(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)


def _int8(axis: int | None) -> Callable[[Array], Array]:
    def quantised(values: Array) -> Array:
        largest = np.abs(values).max(axis=axis, keepdims=axis is not None, initial=0.0)
        scale = np.where(largest > 0, largest, 1.0) / 127
        return np.asarray(np.round(values / scale) * scale)

    return quantised


_NEAREST, _TRUNCATED = keep_bits(10), keep_bits(10, nearest=False)
TF32 = (Arithmetic(operand=_NEAREST, weight=_NEAREST), Arithmetic(operand=_TRUNCATED, weight=_TRUNCATED))


def judge_as_asked(
    asked: str,
    cell: Cell,
    x: Sequence,
    h_0: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    reverse: bool = False,
    lengths: NDArray[np.integer] | None = None,
) -> tuple[Residual, str]:
    """The residual in the precision that a row asks for, and the arithmetic that was really used.

    A network is judged in the type of its answers. A row that asks for TF32 may be better; else it must be TF32
    products and nothing coarser. The gate of 4 holds for it too: how far real tensor cores are from it was not
    measured. A file that asks for int8 says how coarse a product may be at most: float32 is right too.
    """
    arithmetic = ARITHMETICS[name_of(y.dtype)]
    integers: Residual | None = None
    if asked == "int8" and arithmetic is FLOAT32:
        integers = step_residual(cell, x, h_0, y, reverse=reverse, lengths=lengths, arithmetic=INT8)
        if integers.max_q <= GATE:
            return integers, "int8"
    plain = step_residual(cell, x, h_0, y, reverse=reverse, lengths=lengths, arithmetic=arithmetic)
    if integers is not None and plain.max_q > GATE:
        # The bands were measured on products that are not int8.
        return integers, name_precision(integers, cell, x, h_0, y, reverse=reverse, lengths=lengths, banded=False)
    if asked == "TF32" and arithmetic is FLOAT32 and plain.max_q > GATE:
        rounded = [
            step_residual(cell, x, h_0, y, reverse=reverse, lengths=lengths, arithmetic=candidate) for candidate in TF32
        ]
        best = min(rounded, key=lambda residual: residual.max_q)
        if best.judged == plain.judged:
            return best, "TF32" if best.max_q <= GATE else name_precision(
                plain, cell, x, h_0, y, reverse=reverse, lengths=lengths
            )
    return plain, name_precision(plain, cell, x, h_0, y, reverse=reverse, lengths=lengths)


def hypotheses(y: NDArray[np.floating]) -> Iterator[tuple[str, Arithmetic]]:
    """(name, arithmetic) in the order in which they are tried.

    None for float16 and bfloat16: what is coarser than they are by less than the gate hides in their own rounding.
    """
    if y.dtype.name not in ("float32", "float64"):
        return
    bfloat16 = keep_bits(7)
    for products in TF32:
        yield "TF32", products
    yield "bfloat16", Arithmetic(operand=bfloat16, weight=bfloat16)
    yield "bfloat16 weights", Arithmetic(weight=bfloat16)
    yield "float16 weights", Arithmetic(weight=_float16)
    yield "int8 weights", Arithmetic(weight=_int8(None))
    yield "int8 weights, per channel", Arithmetic(weight=_int8(1))
    with np.errstate(over="ignore"):
        parts = (y[steps] for steps in stretches(len(y), y[0].size))
        stored_as_float16 = all((part.astype(np.float16).astype(y.dtype) == part).all() for part in parts)
    if stored_as_float16:
        yield (
            "float16 storage",
            Arithmetic(operand=_float16, weight=_float16, storage=2.0**-12),
        )
        yield "float16", Arithmetic(unit_roundoff=2.0**-11, operand=_float16, weight=_float16)


def name_precision(
    plain: Residual,
    cell: Cell,
    x: Sequence,
    h_0: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    reverse: bool = False,
    lengths: NDArray[np.integer] | None = None,
    banded: bool = True,
) -> str:
    """The arithmetic of one layer and direction, the type of y where the plain residual passes, else a class.

    "WRONG" means that no arithmetic explains the answers: they are another network's. Only where ``banded`` a run that
    no hypothesis explains is named by how coarse it is.
    """
    kind = name_of(y.dtype)
    double = kind == "float64"
    if plain.max_q <= GATE:
        return kind
    if not np.isfinite(plain.max_q):  # NaN, or below zero after relu: no rounding does that
        return "WRONG"
    # a fault that moves few elements of a float64 run by little is no float32
    candidates = [("float32", FLOAT32)] if double and plain.spread >= SPREAD else []
    best, name = np.inf, ""
    for candidate, arithmetic in [*candidates, *hypotheses(y)]:
        found = step_residual(cell, x, h_0, y, reverse=reverse, lengths=lengths, arithmetic=arithmetic)
        if found.judged < plain.judged:  # the operands overflow in it: what it does not judge it cannot explain
            continue
        if found.max_q <= GATE:
            return candidate
        if candidate in PRODUCTS and found.max_q < best:
            best, name = found.max_q, candidate
    if not banded or kind != "float32" or plain.spread < SPREAD:  # the bands were measured on float32 networks
        return "WRONG"
    if best * EXPLAINS <= plain.max_q:
        return name
    for limit, band in BANDS:
        if plain.rho <= limit:
            return band if band != "float32" else "WRONG"
    return "WRONG"
