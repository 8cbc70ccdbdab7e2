"""How large one step's rounding can be: the bound s of the step residual, and what it is made of.

The formulas and their reasons are in the docstring of ``rnn_export.residual``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.weights import Cell

Array = NDArray[np.float64]


def _unchanged(values: Array) -> Array:
    return values


@dataclass(frozen=True)
class Arithmetic:
    """A hypothesis about what a runtime computed with; the default is float32 and nothing else.

    Attributes:
        unit_roundoff: u, the largest relative error of rounding to the type.
        underflow: the most that one operation loses below the type's normal numbers. The smallest normal number
            where subnormal ones may be flushed to zero; half their distance in float16, which nothing flushes.
        overflow: half of what the type cannot hold; an element with m of at least this is not judged.
        summed_in: the narrowest type that kernels keep running sums in: no hardware sums in bfloat16.
        sums: the unit roundoff of the running sums, relative to u.
    """

    unit_roundoff: float = 2.0**-24
    operand: Callable[[Array], Array] = _unchanged
    weight: Callable[[Array], Array] = _unchanged
    storage: float = 0.0  # relative error of storing y, on top of the computation's
    underflow: float = 2.0**-126
    overflow: float = 2.0**127
    summed_in: str = "float32"
    sums: float = 1.0

    @property
    def double(self) -> bool:
        return self.summed_in == "float64"

    @property
    def blind(self) -> float:
        """A tanh whose bound is above this, or a run whose outputs are below it, cannot show a fault."""
        return max(2.0**-10, 64 * self.unit_roundoff)


FLOAT32 = Arithmetic()
FLOAT64 = Arithmetic(2.0**-53, underflow=2.0**-1022, overflow=2.0**1023, summed_in="float64")
FLOAT16 = Arithmetic(2.0**-11, underflow=2.0**-25, overflow=2.0**15, summed_in="float16")
BFLOAT16 = Arithmetic(2.0**-8, sums=2.0**-16)
ARITHMETICS = {"float32": FLOAT32, "float64": FLOAT64, "float16": FLOAT16, "bfloat16": BFLOAT16}


@dataclass(frozen=True)
class Terms:
    """What does not change over time, in float64."""

    weight_ih: Array  # (H, I)
    weight_hh: Array  # (H, H)
    bias_ih: Array  # (H,)
    bias_hh: Array  # (H,)
    tiny: Array  # (H,)
    nonlinearity: str
    arithmetic: Arithmetic

    @classmethod
    def of(cls, cell: Cell, arithmetic: Arithmetic) -> "Terms":
        wide = [np.asarray(array, np.float64) for array in cell[:4]]
        weight_ih, weight_hh = arithmetic.weight(wide[0]), arithmetic.weight(wide[1])
        n = weight_ih.shape[1] + weight_hh.shape[1] + 2
        tiny = arithmetic.underflow * (n + np.abs(weight_ih).sum(1) + np.abs(weight_hh).sum(1))
        return cls(weight_ih, weight_hh, wide[2], wide[3], tiny, cell.nonlinearity, arithmetic)

    @property
    def n(self) -> int:
        """The number of additions, I + H + 2."""
        return int(self.weight_ih.shape[1] + self.weight_hh.shape[1] + 2)

    @property
    def bias(self) -> Array:
        return self.bias_ih + self.bias_hh

    def rounded_sums(self, partial_sums: Array, z: Array) -> Array:
        """The part of w that running sums of that size make: those kept in a wider type are rounded at their end."""
        sums = self.arithmetic.sums
        return partial_sums if sums == 1.0 else sums * partial_sums + np.abs(z)

    def compare(
        self, z: Array, w: Array, y: Array, *, tiny: Array | None = None, z_low: Array | float = 0.0
    ) -> tuple[Array, Array, Array]:
        """r, s and act' of every element; ``z_low`` is what z lacks where it was evaluated in two parts."""
        u, tiny = self.arithmetic.unit_roundoff, self.tiny if tiny is None else tiny
        stored = self.arithmetic.storage * np.abs(y)
        if self.nonlinearity == "tanh":
            tanh = np.tanh(z)
            slope = 1 - tanh**2
            d = 1 - np.tanh(np.maximum(np.abs(z) - 4 * u * w, 0)) ** 2
            return np.abs((y - tanh) - slope * z_low), u * (d * w + np.abs(y) + 2) + tiny + stored, slope
        r = np.abs((y - z) - z_low)
        if self.nonlinearity == "relu":
            r = np.where(y > 0, r, np.where(y == 0, np.maximum(z + z_low, 0), np.inf))
        return r, u * (w + np.abs(y)) + tiny + stored, np.ones_like(z)


class Chunk(NamedTuple):
    """A stretch of consecutive steps: the operands, the answers and the sums, each (steps, B, ...)."""

    x: Array
    h: Array  # the state one step before
    y: Array
    z: Array
    m: Array
    v: Array
    w: Array

    @classmethod
    def of(cls, terms: Terms, x: Array, h: Array, y: Array) -> "Chunk":
        x, h = terms.arithmetic.operand(x), terms.arithmetic.operand(h)
        with np.errstate(all="ignore"):
            z = x @ terms.weight_ih.T + h @ terms.weight_hh.T + terms.bias
            m = np.abs(x) @ np.abs(terms.weight_ih).T + np.abs(h) @ np.abs(terms.weight_hh).T
            m += np.abs(terms.bias_ih) + np.abs(terms.bias_hh)
            v = (x * x) @ (terms.weight_ih**2).T + (h * h) @ (terms.weight_hh**2).T + terms.bias**2
            partial_sums = np.sqrt(terms.n * (2 * z * z + v) / 6)
            return cls(x, h, y, z, m, v, m + terms.rounded_sums(partial_sums, z))
