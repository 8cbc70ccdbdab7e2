"""The appeal: elements above the gate, added again in several orders, because a kernel has an order of its own."""

from math import fsum

import numpy as np
from numpy.typing import NDArray

from rnn_export.rounding import Array, Chunk, Terms

PERMUTATIONS = 5


def judge_again(terms: Terms, chunk: Chunk, places: NDArray[np.intp]) -> Array:
    """q' = r / s(w') of the elements at ``places`` (elements, 3): step in the chunk, batch row, unit.

    w' = max(w, m + e) with e the largest rounding that any of 9 ways to add shows: 8 orders of one sum, and two
    sums that start at b_ih and b_hh. float64 runs are judged against the exact sum, because the residual's own
    float64 evaluation rounds as they do.
    """
    t, b, unit = places.T
    x, h = chunk.x[t, b], chunk.h[t, b]  # (elements, I), (elements, H)
    z, z_low = chunk.z[t, b, unit], np.zeros(len(places))
    with np.errstate(all="ignore"):
        if terms.arithmetic.double:
            z, z_low = _exact_sums(terms, x, h, unit)
        products = (x * terms.weight_ih[unit], h * terms.weight_hh[unit])
        e = _order_error(terms, *products, terms.bias[unit], z)
        e = np.fmax(e, _two_sums_error(terms, *products, unit, z))
        w = np.maximum(chunk.w[t, b, unit], chunk.m[t, b, unit] + e)
        r, s, _ = terms.compare(z, w, chunk.y[t, b, unit], tiny=terms.tiny[unit], z_low=z_low)
        q: Array = r / s
    q[np.isnan(q)] = np.inf
    return q


def _order_error(terms: Terms, products_x: Array, products_h: Array, bias: Array, z: Array) -> Array:
    """e (elements,): over 8 orders, the larger of the rms partial sum and the running sum's error / u."""
    running = np.dtype(terms.arithmetic.summed_in)
    last = bias[:, None]
    x_first = np.concatenate([products_x, products_h, last], axis=1)
    orders = [
        x_first,
        np.concatenate([last, products_x, products_h], axis=1),
        np.concatenate([last, products_h[:, ::-1], products_x[:, ::-1]], axis=1),
    ]
    for seed in range(PERMUTATIONS):
        orders.append(x_first[:, np.random.default_rng(seed).permutation(x_first.shape[1])])
    e = np.zeros(len(z))
    for order in orders:
        partial_rms = terms.rounded_sums(np.sqrt((np.cumsum(order, axis=1) ** 2).sum(axis=1)), z)
        total: Array = np.cumsum(order.astype(running), axis=1, dtype=running)[:, -1].astype(np.float64)
        e = np.fmax(e, np.fmax(partial_rms, np.abs(total - z) / terms.arithmetic.unit_roundoff))
    return e


def _two_sums_error(terms: Terms, products_x: Array, products_h: Array, unit: NDArray[np.intp], z: Array) -> Array:
    """e of a kernel that starts one sum at b_ih and another at b_hh, and adds the two, as torch does.

    Where b_ih and b_hh cancel, no order that starts from their sum shows how coarse these two are.
    """
    running = np.dtype(terms.arithmetic.summed_in)
    from_x = np.concatenate([terms.bias_ih[unit][:, None], products_x], axis=1)
    from_h = np.concatenate([terms.bias_hh[unit][:, None], products_h], axis=1)
    squares: Array = np.concatenate([np.cumsum(from_x, axis=1), np.cumsum(from_h, axis=1)], axis=1) ** 2
    sums = np.stack([np.cumsum(order.astype(running), axis=1, dtype=running)[:, -1] for order in (from_x, from_h)])
    error = np.abs(sums.sum(axis=0, dtype=running).astype(np.float64) - z) / terms.arithmetic.unit_roundoff
    e: Array = np.fmax(terms.rounded_sums(np.sqrt(squares.sum(axis=1)), z), error)
    return e


def _exact_sums(terms: Terms, x: Array, h: Array, unit: NDArray[np.intp]) -> tuple[Array, Array]:
    """z of each element as high + low, to about 2**-100: Dekker's products, summed by math.fsum.

    Exact on every platform, where numpy's longdouble is plain double on some.
    """
    a = np.concatenate([x, h], axis=1)
    b = np.concatenate([terms.weight_ih[unit], terms.weight_hh[unit]], axis=1)
    product = a * b
    biases = np.stack([terms.bias_ih[unit], terms.bias_hh[unit]], axis=1)
    rows = np.concatenate([product, _product_error(a, b, product), biases], axis=1).tolist()
    high = [_sum(row) for row in rows]
    low = [_sum([*row, -total]) for row, total in zip(rows, high, strict=True)]
    return np.array(high), np.array(low)


def _sum(values: list[float]) -> float:
    try:
        return fsum(values)
    except (
        OverflowError,
        ValueError,
    ):  # fsum refuses inf - inf and sums beyond the range: NaN is judged wrong
        return float("nan")


def _product_error(a: Array, b: Array, product: Array) -> Array:
    """a*b - product, exactly (T. J. Dekker, A floating-point technique, Numer. Math. 18, 1971)."""
    split = 2.0**27 + 1

    def halves(value: Array) -> tuple[Array, Array]:
        high = split * value - (split * value - value)
        return high, value - high

    a_high, a_low = halves(a)
    b_high, b_low = halves(b)
    return a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
