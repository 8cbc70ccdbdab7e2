"""The step residual: is every step what the recurrence says, to within one step's rounding?

The question is asked of each step on its own, from the state that the runtime itself produced one step
before, so it does not grow with the length and needs no tolerance. Per element, in float64, with u the unit
roundoff and n = I + H + 2:

    z = x @ W_ih.T + h @ W_hh.T + b_ih + b_hh
    m = the same with absolute values       v = the same with squares, (b_ih + b_hh)**2 for the bias
    w = m + sqrt(n * (2*z*z + v) / 6)       the size of the partial sums, rms over random orders of summation
    tiny = 2**-126 * (n + rowsum|W_ih| + rowsum|W_hh|)        flushed subnormal products and inputs (float16: 2**-25)
    tanh:      r = |y - tanh z|    s = u*(d*w + |y| + 2) + tiny,  d = 1 - tanh(max(|z| - 4*u*w, 0))**2
    relu:      r = |y - z| where y > 0, max(z, 0) where y = 0, inf where y < 0   s = u*(w + |y|) + tiny
    identity:  r = |y - z|                                                       s = u*(w + |y|) + tiny
    q = r / s, and a run passes if no q is above 4

w is the rms of the partial sums of a dot product over random orders: sum_k E[s_k**2] = n*z**2/3 + n*v/6. The
2 for tanh is absolute accuracy: kernels compute tanh to a few units of 1, not of tanh x (ONNX Runtime's is
5.3 u off at x = 8.5). An element above 4 is not yet wrong, because a kernel adds in an order of its own: the
appeal adds its terms in 8 orders, and as two sums, and judges by the largest rounding that any of them shows.

u is 2**-24 in float32, 2**-53 in float64, 2**-11 in float16 and 2**-8 in bfloat16. bfloat16 has its sums in float32:
there w = m + |z| + 2**-16 * sqrt(n * (2*z*z + v) / 6), because only what is stored is rounded to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.appeal import judge_again
from rnn_export.oracle import activation, valid_steps
from rnn_export.rounding import FLOAT32, Arithmetic, Array, Chunk, Terms
from rnn_export.sequences import Sequence
from rnn_export.weights import Cell

GATE = 4.0  # of 255,690 correct runs none kept a q above 2.0 after the appeal; up to 4 there is none
CHUNK_STEPS = 256
CHUNK_ELEMENTS = 2**20  # bounds the memory of wide batches: about ten float64 arrays of this size
APPEALS_AT_ONCE = 256
LIVE_TANH = 0.1  # act' above this: the unit is not saturated


class Place(NamedTuple):
    """Where an element is: t counts in the input's own order, whatever the direction."""

    t: int
    b: int
    unit: int


@dataclass(frozen=True)
class Residual:
    """What the residual found in one layer and direction.

    ``max_q`` is the largest q, inf where a value is NaN: after the appeal up to the first wrong step, before it
    from there on; ``first`` is the earliest step (in the direction's own order) that is wrong. ``misplaced`` is
    the first element whose NaN or infinity is not where IEEE arithmetic puts it, given operands that are not
    finite. ``rho`` is the rms of r / (u * sqrt(act'**2 * v + y**2)) over live elements: independent of n, it
    tells how coarse the arithmetic was. ``spread`` is the share of the judged elements with q above the gate
    before the appeal.
    """

    max_q: float
    first: Place | None
    judged: int
    overflowed: int  # elements with m >= 2**127, half of what float32 cannot hold: not judged
    blind: float  # share of the judged elements that could not have shown a fault
    misplaced: Place | None
    swallowed: bool  # the misplaced element is finite where IEEE arithmetic has NaN
    rho: float
    spread: float
    by_step: NDArray[np.float64] = field(compare=False, repr=False)  # (T,): the largest q of each step, as in max_q

    @property
    def passed(self) -> bool:
        """False for a q above the gate; NaN cannot slip through, it counts as inf."""
        return self.max_q <= GATE and self.misplaced is None


def step_residual(
    cell: Cell,
    x: Sequence,
    h_0: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    reverse: bool = False,
    lengths: NDArray[np.integer] | None = None,
    arithmetic: Arithmetic = FLOAT32,
) -> Residual:
    """Judge one layer in one direction.

    Args:
        cell: the weights that the layer should have; a weight_hh of shape (H, 0) is a layer without recurrence.
        x: (T, B, I), the layer's actual input.
        h_0: (B, H), the state before the first step (after the last one when ``reverse``); (B, 0) without recurrence.
        y: (T, B, H), what the runtime answered.
        reverse: the layer reads x from its end.
        lengths: (B,), each in 1..T: steps past a sequence's end are not judged. All T if absent.
        arithmetic: in which type or rounding the run is judged.

    Raises:
        ValueError: y has not the shape that x and the weights ask for; shapes are never broadcast.
    """
    T, B, I = x.shape  # noqa: E741
    H, states = cell.weight_hh.shape
    if y.shape != (T, B, H) or h_0.shape != (B, states) or cell.weight_ih.shape != (H, I):
        raise ValueError(f"x {x.shape}, h_0 {h_0.shape}, y {y.shape} do not fit {cell.weight_ih.shape}")
    terms = Terms.of(cell, arithmetic)
    judge = _Judge(terms, T)
    inside = valid_steps(T, B, lengths)
    for start, operands, answers, valid in _chunks(x, h_0, y, inside, reverse):
        judge.add(start, Chunk.of(terms, *operands, answers), valid)
    return judge.verdict(T, reverse)


def _chunks(
    x: Sequence,
    h_0: NDArray[np.floating],
    y: NDArray[np.floating],
    inside: NDArray[np.bool_],
    reverse: bool,
) -> Iterator[tuple[int, tuple[Array, Array], Array, NDArray[np.bool_]]]:
    """(first step, (x, previous state), y, valid (steps, B)), float64, in the direction's own order."""
    if reverse:
        x, y, inside = x[::-1], y[::-1], inside[::-1]
    T, B, width = x.shape[0], x.shape[1], max(x.shape[2], y.shape[2])
    steps = max(1, min(CHUNK_STEPS, CHUNK_ELEMENTS // max(1, B * width)))
    before = np.concatenate([np.zeros_like(inside[:1]), inside])
    states, unpadded = y[..., : h_0.shape[1]], bool(inside.all())
    for start in range(0, T, steps):
        stop = min(start + steps, T)
        previous = np.empty((stop - start, B, h_0.shape[1]))
        previous[0] = h_0 if start == 0 else states[start - 1]
        previous[1:] = states[start : stop - 1]
        valid, inputs = inside[start:stop], x[start:stop]
        if not unpadded:
            # In reverse a shorter sequence starts later: the step before its first one lies in the padding.
            previous = np.where(before[start:stop, :, None], previous, h_0[None])
            inputs = np.where(valid[..., None], inputs, 0)  # the padding may hold NaN
        yield start, (inputs.astype(np.float64), previous), y[start:stop].astype(np.float64), valid


class _Judge:
    """Collects q over the chunks and hears the appeals."""

    def __init__(self, terms: Terms, T: int) -> None:
        self.terms = terms
        self.by_step = np.zeros(T)
        # A float64 residual evaluated in float64 has an error of its own: above 2 it is evaluated exactly.
        self.appeal_from = 2.0 if terms.arithmetic.double else GATE
        self.max_q = 0.0
        self.first: tuple[int, int, int] | None = None
        self.misplaced: tuple[int, int, int] | None = None
        self.swallowed = False
        self.judged = self.overflowed = self.blind = self.above = 0
        self.rho_sum, self.live, self.largest = 0.0, 0, 0.0

    def add(self, start: int, chunk: Chunk, valid: NDArray[np.bool_]) -> None:
        terms, valid = self.terms, valid[..., None]
        finite = np.isfinite(chunk.x).all(-1, keepdims=True) & np.isfinite(chunk.h).all(-1, keepdims=True)
        with np.errstate(all="ignore"):
            fits = (chunk.m < terms.arithmetic.overflow) & np.isfinite(chunk.w)  # float64: the squares overflow first
            judged = valid & finite & fits
            r, s, slope = terms.compare(chunk.z, chunk.w, chunk.y)
            q = r / s
            q[np.isnan(q)] = np.inf
            self.judged += int(np.count_nonzero(judged))
            if not judged.all():
                q[~judged] = 0.0
                self.overflowed += int(np.count_nonzero(valid & finite & ~fits))
                self._check_masks(start, valid & ~finite & np.ones_like(judged), chunk)
            self._count_blind(judged, s, chunk.y)
            self._add_rho(judged, r, slope, chunk)
        self._hear(start, q, chunk)
        self.by_step[start : start + len(q)] = q.max(axis=(1, 2), initial=0.0)

    def _count_blind(self, judged: NDArray[np.bool_], s: Array, y: Array) -> None:
        if self.terms.nonlinearity == "tanh":
            self.blind += int(np.count_nonzero(judged & (s > self.terms.arithmetic.blind)))
        self.largest = max(self.largest, float(np.abs(y[judged]).max(initial=0.0)))

    def _add_rho(self, judged: NDArray[np.bool_], r: Array, slope: Array, chunk: Chunk) -> None:
        live = judged & ((slope > LIVE_TANH) if self.terms.nonlinearity == "tanh" else (chunk.y > 0))
        scale = np.sqrt(slope * slope * chunk.v + chunk.y * chunk.y)
        relative = r / (self.terms.arithmetic.unit_roundoff * scale)
        relative = relative[live & np.isfinite(relative)]
        self.rho_sum += float((relative**2).sum())
        self.live += len(relative)

    def _check_masks(self, start: int, asked: NDArray[np.bool_], chunk: Chunk) -> None:
        """Given operands that are not finite: NaN where IEEE has NaN, infinity where it has infinity."""
        if not asked.any():
            return
        terms, y = self.terms, chunk.y
        expected = activation(terms.nonlinearity, chunk.z)
        # Beside an infinity finite products may overflow in float32, and inf - inf is NaN: only where float64
        # has NaN already, or where the finite part fits, does IEEE arithmetic say what must stand here.
        finite_x, finite_h = (np.where(np.isfinite(operand), operand, 0.0) for operand in (chunk.x, chunk.h))
        fits = Chunk.of(terms, finite_x, finite_h, y).m < terms.arithmetic.overflow
        self.overflowed += int((asked & ~np.isnan(expected) & ~fits).sum())
        asked = asked & (np.isnan(expected) | fits)
        if terms.arithmetic.quantised_state:
            # A state that is not finite has no integers, and what a kernel makes of it is not said: but NaN may not go.
            kept = np.isfinite(chunk.h).all(-1, keepdims=True) | (np.isnan(expected) & ~np.isinf(y))
            self.overflowed += int((asked & ~kept).sum())
            asked = asked & kept
        same = (np.isnan(y) & np.isnan(expected)) | (y == expected)
        # tanh of infinity is ±1 in IEEE; kernels are a few units off, as they are at every other argument.
        same |= np.abs(y - expected) <= 8 * self.terms.arithmetic.unit_roundoff
        if self.misplaced is None and (wrong := asked & ~same).any():
            t, b, unit = np.argwhere(wrong)[0]
            self.misplaced = (start + int(t), int(b), int(unit))
            self.swallowed = bool(np.isnan(expected[t, b, unit]) and np.isfinite(y[t, b, unit]))

    def _hear(self, start: int, q: Array, chunk: Chunk) -> None:
        """Let every flagged element appeal, in order of time, until one is found wrong; q gets what was heard."""
        flagged = q > self.appeal_from
        if not flagged.any():
            self.max_q = max(self.max_q, float(q.max(initial=0.0)))
            return
        self.above += int((q > GATE).sum())
        self.max_q = max(self.max_q, float(q[~flagged].max(initial=0.0)))
        places, raised = np.argwhere(flagged), q[flagged]
        size = max(1, min(APPEALS_AT_ONCE, CHUNK_ELEMENTS // self.terms.n))
        for i in range(0, len(places), size):
            if self.first is not None:  # the verdict stands: only the size of the damage is of interest
                self.max_q = max(self.max_q, float(raised[i:].max()))
                return
            heard = judge_again(self.terms, chunk, places[i : i + size])
            wrong = np.flatnonzero(heard > GATE)
            if wrong.size:
                t, b, unit = places[i + wrong[0]]
                self.first = (start + int(t), int(b), int(unit))
                heard = np.concatenate([heard[: wrong[0] + 1], raised[i + wrong[0] + 1 : i + size]])
            q[tuple(places[i : i + size].T)] = heard
            self.max_q = max(self.max_q, float(heard.max()))

    def verdict(self, T: int, reverse: bool) -> Residual:
        def place(found: tuple[int, int, int] | None) -> Place | None:
            if found is None:
                return None
            return Place(T - 1 - found[0] if reverse else found[0], found[1], found[2])

        too_small = self.largest < self.terms.arithmetic.blind
        nothing_exercised = self.terms.nonlinearity == "tanh" and self.judged > 0 and too_small
        return Residual(
            max_q=self.max_q,
            first=place(self.first),
            judged=self.judged,
            overflowed=self.overflowed,
            blind=1.0 if nothing_exercised else self.blind / max(1, self.judged),
            misplaced=place(self.misplaced),
            swallowed=self.swallowed,
            rho=float(np.sqrt(self.rho_sum / self.live)) if self.live else 0.0,
            spread=self.above / max(1, self.judged),
            by_step=self.by_step[::-1] if reverse else self.by_step,
        )
