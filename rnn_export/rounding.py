"""How large one step's rounding can be: the bound s of the step residual, and what it is made of.

The formulas and their reasons are in the docstring of ``rnn_export.residual``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.memo import SMALL, Memo
from rnn_export.quantised_state import quantised_state, zero_point_excess, zero_points
from rnn_export.weights import Cell

Array = NDArray[np.float64]


def _unchanged(values: Array) -> Array:
    return values


@dataclass(frozen=True, eq=False)  # functions are in it: one is equal to itself alone
class Arithmetic:
    """A hypothesis about what a runtime computed with; the default is float32 and nothing else.

    Attributes:
        unit_roundoff: u, the largest relative error of rounding to the type.
        underflow: the most that one operation loses below the type's normal numbers. The smallest normal number
            where subnormal ones may be flushed to zero; half their distance in float16, which nothing flushes.
        overflow: half of what the type cannot hold; an element with m of at least this is not judged.
        summed_in: the narrowest type that kernels keep running sums in: no hardware sums in bfloat16.
        sums: the unit roundoff of the running sums, relative to u.
        quantised_state: the state is multiplied as 8-bit integers, see ``rnn_export.quantised_state``.
    """

    unit_roundoff: float = 2.0**-24
    operand: Callable[[Array], Array] = _unchanged
    weight: Callable[[Array], Array] = _unchanged
    storage: float = 0.0  # relative error of storing y, on top of the computation's
    underflow: float = 2.0**-126
    overflow: float = 2.0**127
    summed_in: str = "float32"
    sums: float = 1.0
    quantised_state: bool = False

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
INT8 = Arithmetic(quantised_state=True)
ARITHMETICS = {"float32": FLOAT32, "float64": FLOAT64, "float16": FLOAT16, "bfloat16": BFLOAT16}


@dataclass(frozen=True)
class Terms:
    """What does not change over time, in float64."""

    weight_ih: Array  # (H, I)
    weight_hh: Array  # (H, H)
    bias_ih: Array  # (H,)
    bias_hh: Array  # (H,)
    tiny: Array  # (H,)
    zeros: Array  # (H, blocks) of a quantised state's products, else (H, 0)
    nonlinearity: str
    arithmetic: Arithmetic
    _turned: dict[tuple[str, Callable[[Array], Array]], Array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, cell: Cell, arithmetic: Arithmetic) -> "Terms":
        return _TERMS(cell[:4], cell.nonlinearity, arithmetic)

    @cached_property
    def n(self) -> int:
        """The number of additions, I + H + 2."""
        return int(self.weight_ih.shape[1] + self.weight_hh.shape[1] + 2)

    @cached_property
    def bias(self) -> Array:
        return self.bias_ih + self.bias_hh

    @cached_property
    def bias_size(self) -> Array:
        return np.abs(self.bias_ih) + np.abs(self.bias_hh)

    def turned(self, name: Literal["weight_ih", "weight_hh"], change: Callable[[Array], Array] = _unchanged) -> Array:
        """A matrix as (I, H) or (H, H), each element changed; a small one is made once."""
        if (found := self._turned.get((name, change))) is None:
            found = change(getattr(self, name)).T
            if found.nbytes <= SMALL:
                self._turned[name, change] = found
        return found

    def multiplied_state(self, h: Array) -> tuple[Array, Array | float, Array | float]:
        """What is multiplied of the state h (..., H), and what that adds to m and beyond it to w, each (..., H).

        Where a quantised state may be the integer beside, s has room for one such step.
        """
        if not self.arithmetic.quantised_state:
            return h, 0.0, 0.0
        values, unsure = quantised_state(h)
        excess = zero_point_excess(values, self.zeros)
        beside = unsure @ np.abs(self.weight_hh).T / self.arithmetic.unit_roundoff
        return values, excess.size, excess.rms + beside

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


def _make_terms(arrays: tuple[NDArray[np.floating], ...], nonlinearity: str, arithmetic: Arithmetic) -> Terms:
    wide = [np.asarray(array, np.float64) for array in arrays]
    weight_ih, weight_hh = arithmetic.weight(wide[0]), arithmetic.weight(wide[1])
    n = weight_ih.shape[1] + weight_hh.shape[1] + 2
    tiny = arithmetic.underflow * (n + np.abs(weight_ih).sum(1) + np.abs(weight_hh).sum(1))
    zeros = zero_points(weight_hh) if arithmetic.quantised_state else np.zeros((len(weight_hh), 0))
    return Terms(weight_ih, weight_hh, wide[2], wide[3], tiny, zeros, nonlinearity, arithmetic)


_TERMS = Memo(_make_terms)


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
            h, excess, spare = terms.multiplied_state(h)
            z = x @ terms.turned("weight_ih") + h @ terms.turned("weight_hh") + terms.bias
            m = np.abs(x) @ terms.turned("weight_ih", np.abs) + np.abs(h) @ terms.turned("weight_hh", np.abs)
            m += terms.bias_size + excess
            v = (x * x) @ terms.turned("weight_ih", np.square) + (h * h) @ terms.turned("weight_hh", np.square)
            v += terms.bias**2
            partial_sums = np.sqrt(terms.n * (2 * z * z + v) / 6)
            return cls(x, h, y, z, m, v, m + terms.rounded_sums(partial_sums, z) + spare)
