"""The second hearing, against sums that are added one by one, and against exact rational numbers."""

from fractions import Fraction
from math import sqrt, tanh

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_export import appeal
from rnn_export.appeal import judge_again
from rnn_export.residual import GATE, step_residual
from rnn_export.rounding import FLOAT32, FLOAT64, Arithmetic, Chunk, Terms
from rnn_export.weights import Cell
from tests.strategies import Layer, layers

ONE_STEP = {"sizes": (1, 6), "lengths": (1, 1), "nonlinearities": ("tanh", "relu", "identity")}


def hear(layer: Layer, y: np.ndarray, arithmetic: Arithmetic = FLOAT32) -> tuple[np.ndarray, np.ndarray]:
    """q before and q' after, of every element of a run of one step, both (B, H)."""
    terms = Terms.of(layer.cell, arithmetic)
    chunk = Chunk.of(terms, layer.x.astype(float), layer.h_0[None].astype(float), y.astype(float))
    with np.errstate(invalid="ignore"):
        r, s, _ = terms.compare(chunk.z, chunk.w, chunk.y)
        before = (r / s)[0]
    places = np.argwhere(np.ones(y.shape, bool))
    return before, judge_again(terms, chunk, places).reshape(y.shape)[0]


def add_up(terms: list[float]) -> float:
    total = np.float32(0)
    for term in terms:
        total = np.float32(total + np.float32(term))
    return float(total)


def sequential_step(layer: Layer) -> np.ndarray:
    """y (1, B, H) of a float32 kernel that adds its products one by one: x, then h, then the bias."""
    cell = layer.cell
    y = np.empty((1, *layer.h_0.shape), np.float32)
    for b, unit in np.ndindex(*layer.h_0.shape):
        products = [*layer.x[0, b] * cell.weight_ih[unit], *layer.h_0[b] * cell.weight_hh[unit]]
        z = add_up([*products, cell.bias_ih[unit] + cell.bias_hh[unit]])
        y[0, b, unit] = {"tanh": np.tanh(np.float32(z)), "relu": max(z, 0), "identity": z}[cell.nonlinearity]
    return y


def q_after_three_orders(layer: Layer, y: float, b: int, unit: int) -> float:
    """r / s(w') of one element, as the docstring says: three orders and two sums, no permutations."""
    cell, x, h, u = layer.cell, layer.x[0, b].tolist(), layer.h_0[b].tolist(), 2.0**-24
    w_ih, w_hh = cell.weight_ih[unit].tolist(), cell.weight_hh[unit].tolist()
    b_ih, b_hh = float(cell.bias_ih[unit]), float(cell.bias_hh[unit])
    from_x = [a * c for a, c in zip(x, w_ih, strict=True)]
    from_h = [a * c for a, c in zip(h, w_hh, strict=True)]
    bias, n = [b_ih + b_hh], len(x) + len(h) + 2
    z = sum(from_x) + sum(from_h) + bias[0]
    m = sum(map(abs, from_x + from_h)) + abs(b_ih) + abs(b_hh)
    v = sum(term * term for term in from_x + from_h + bias)
    e = 0.0
    for order in (from_x + from_h + bias, bias + from_x + from_h, bias + from_h[::-1] + from_x[::-1]):
        partial_sums = [sum(order[: k + 1]) for k in range(len(order))]
        e = max(e, sqrt(sum(part * part for part in partial_sums)), abs(add_up(order) - z) / u)
    squares, total = 0.0, np.float32(0)
    for order in ([b_ih, *from_x], [b_hh, *from_h]):
        squares += sum(sum(order[: k + 1]) ** 2 for k in range(len(order)))
        total += np.float32(add_up(order))
    e = max(e, sqrt(squares), abs(float(total) - z) / u)
    w = max(m + sqrt(n * (2 * z * z + v) / 6), m + e)
    tiny = 2.0**-126 * (n + sum(map(abs, w_ih)) + sum(map(abs, w_hh)))
    if cell.nonlinearity == "tanh":
        d = 1 - tanh(max(abs(z) - 4 * u * w, 0)) ** 2
        return abs(y - tanh(z)) / (u * (d * w + abs(y) + 2) + tiny)
    s = u * (w + abs(y)) + tiny
    if cell.nonlinearity == "relu" and y <= 0:
        return max(z, 0) / s if y == 0 else float("inf")
    return abs(y - z) / s


def constant_layer(nonlinearity: str) -> Layer:
    """1000 equal products, which a running sum rounds the same way for long stretches."""
    weight_ih, weight_hh = np.full((2, 1000), 0.1, np.float32), np.zeros((2, 2), np.float32)
    cell = Cell(weight_ih, weight_hh, *np.zeros((2, 2), np.float32), nonlinearity)
    return Layer(cell, np.ones((1, 1, 1000), np.float32), np.zeros((1, 2), np.float32), False)


@pytest.mark.parametrize("nonlinearity", ["relu", "identity"])
def test_a_constant_net_added_term_by_term_fails_without_the_appeal_and_passes_with_it(nonlinearity):
    layer = constant_layer(nonlinearity)
    y = sequential_step(layer)
    before, after = hear(layer, y)
    assert before.min() > GATE
    assert after.max() <= 1
    found = step_residual(layer.cell, layer.x, layer.h_0, y)
    assert found.passed
    assert found.spread == 1
    assert found.max_q == pytest.approx(after.max(), rel=1e-9)
    assert list(found.by_step) == [found.max_q]  # over time, too, it is what was heard that counts


def test_the_appeal_does_not_rescue_a_constant_net_that_is_wrong():
    layer = constant_layer("relu")
    wrong = sequential_step(layer) * np.float32(1 + 2.0**-12)
    _, after = hear(layer, wrong)
    assert after.min() > GATE
    assert not step_residual(layer.cell, layer.x, layer.h_0, wrong).passed


@given(layers(**ONE_STEP), st.integers(-300, 300))
def test_with_the_three_plain_orders_it_is_the_formula_element_by_element(layer, off):
    y = sequential_step(layer) * np.float32(1 + off * 2.0**-23)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appeal, "PERMUTATIONS", 0)
        _, after = hear(layer, y)
    for b, unit in np.ndindex(*after.shape):
        expected = q_after_three_orders(layer, float(y[0, b, unit]), b, unit)
        assert after[b, unit] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(layers(**ONE_STEP), st.integers(-300, 300))
def test_more_orders_only_ever_help_the_accused(layer, off):
    y = sequential_step(layer) * np.float32(1 + off * 2.0**-23)
    before, after = hear(layer, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appeal, "PERMUTATIONS", 0)
        _, with_three = hear(layer, y)
    assert (after <= with_three).all()
    assert (with_three <= before * (1 + 1e-12)).all()
    np.testing.assert_array_equal(after, hear(layer, y)[1])


def test_a_permutation_shows_the_rounding_that_a_lucky_order_hides():
    """Terms that cancel in pairs never add up to anything, unless they are shuffled."""
    weight_ih = np.tile(np.array([1.0, -1.0], np.float32), (1, 10))
    cell = Cell(weight_ih, np.zeros((1, 1), np.float32), *np.zeros((2, 1), np.float32), "identity")
    layer = Layer(cell, np.ones((1, 1, 20), np.float32), np.zeros((1, 1), np.float32), False)
    y = np.ones((1, 1, 1), np.float32)
    before, after = hear(layer, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appeal, "PERMUTATIONS", 0)
        _, with_three = hear(layer, y)
    assert with_three.item() == before.item()
    assert GATE < after.item() < 0.9 * before.item()


@given(layers(**ONE_STEP), st.data())
def test_elements_are_judged_alone_whatever_else_is_heard(layer, data):
    y = sequential_step(layer) * np.float32(1.5)
    _, everyone = hear(layer, y)
    b, unit = data.draw(st.sampled_from(list(np.ndindex(*everyone.shape))))
    terms = Terms.of(layer.cell, FLOAT32)
    chunk = Chunk.of(terms, layer.x.astype(float), layer.h_0[None].astype(float), y.astype(float))
    alone = judge_again(terms, chunk, np.array([[0, b, unit]]))
    assert alone[0] == pytest.approx(everyone[b, unit], rel=1e-12)


@pytest.mark.parametrize("arithmetic", [FLOAT32, FLOAT64], ids=["float32", "float64"])
@pytest.mark.parametrize("answer", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_stays_infinitely_wrong(arithmetic, answer):
    _, after = hear(constant_layer("identity"), np.full((1, 1, 2), answer), arithmetic)
    assert (after == np.inf).all()


def exact_sum(layer: Layer, b: int, unit: int) -> Fraction:
    """z of a float64 layer, without any rounding."""
    cell = layer.cell
    left = [*layer.x[0, b], *layer.h_0[b], cell.bias_ih[unit], cell.bias_hh[unit]]
    right = [*cell.weight_ih[unit], *cell.weight_hh[unit], 1.0, 1.0]
    return sum((Fraction(float(a)) * Fraction(float(c)) for a, c in zip(left, right, strict=True)), Fraction())


DENSE = ONE_STEP | {"kinds": ("normal", "positive"), "nonlinearities": ("identity",)}


@given(layers(**DENSE, dtype="float64"), st.integers(-9, 9))
def test_a_float64_answer_is_compared_with_the_exact_sum(layer, off):
    """A far answer shows w', whatever the evaluation's own rounding; a near one must then fit exactly."""
    u, shape = 2.0**-53, (1, *layer.h_0.shape)
    for b, unit in np.ndindex(*layer.h_0.shape):
        z = exact_sum(layer, b, unit)
        near, far = float(z) * (1 + off * 2.0**-52), float(z) + 1
        q_near, q_far = (hear(layer, np.full(shape, y), FLOAT64)[1][b, unit] for y in (near, far))
        w = float(abs(Fraction(far) - z)) / (u * q_far) - abs(far)
        assert q_near == pytest.approx(float(abs(Fraction(near) - z)) / (u * (w + abs(near))), rel=1e-9)


def test_a_float64_sum_whose_plain_evaluation_loses_its_digits_is_judged_exactly():
    weight_ih = np.array([[1 + 2.0**-30, -1.0, 1.0]])
    cell = Cell(weight_ih, np.zeros((1, 1)), np.zeros(1), np.zeros(1), "identity")
    layer = Layer(cell, np.array([[[1 + 2.0**-30, 1 + 2.0**-29, 2.0**-70]]]), np.zeros((1, 1)), False)
    z = exact_sum(layer, 0, 0)
    assert z == Fraction(1, 2**60) + Fraction(1, 2**70)
    before, after = hear(layer, np.full((1, 1, 1), float(z)), FLOAT64)
    assert before.item() > 0
    assert after.item() == 0


def test_the_low_part_of_a_float64_sum_moves_tanh_by_its_slope():
    """z = 0.5 ± 2**-56 is 0.5 in float64, but the two answers are 2**-55 * tanh'(0.5) apart."""
    cell = Cell(np.ones((1, 2)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), "tanh")
    y = np.full((1, 1, 1), np.tanh(0.5) + 1e-13)
    above, below = (
        hear(Layer(cell, np.array([[[0.5, low]]]), np.zeros((1, 1)), False), y, FLOAT64)[1].item()
        for low in (2.0**-56, -(2.0**-56))
    )
    r = y.item() - np.tanh(0.5)
    assert (below - above) / below == pytest.approx(2.0**-55 * (1 - np.tanh(0.5) ** 2) / r, rel=1e-2)
