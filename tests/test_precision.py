"""An emulated run in each arithmetic is called by its name, and what no arithmetic explains is called wrong."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.forms._quantisation import dequantised, quantised
from rnn_export.precision import hypotheses, judge_as_asked, keep_bits, name_precision
from rnn_export.quantised_state import quantised_state
from rnn_export.residual import GATE, Residual, step_residual
from rnn_export.rounding import ARITHMETICS
from rnn_export.weights import Cell
from tests.strategies import Layer, make_layer, run_torch

Rounding = Callable[[np.ndarray], np.ndarray]
FINITE32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def unchanged(values: np.ndarray) -> np.ndarray:
    return values


def as_float16(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float64)


def as_int8(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    scale = np.abs(values).max(axis=axis, keepdims=axis is not None) / 127
    return np.round(values / scale) * scale


def emulate(
    layer: Layer,
    operand: Rounding = unchanged,
    weight: Rounding = unchanged,
    store: Rounding = unchanged,
    state: Rounding = unchanged,
):
    """y (T, B, H) with operands and weights rounded, summed in float64, stored in float32 after ``store``.

    ``state`` rounds the state alone, before it is multiplied.
    """
    cell, h = layer.cell, layer.h_0.astype(np.float64)
    w_ih, w_hh = weight(cell.weight_ih.astype(np.float64)), weight(cell.weight_hh.astype(np.float64))
    bias = cell.bias_ih.astype(np.float64) + cell.bias_hh
    activation = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": unchanged}[cell.nonlinearity]
    y = np.empty((len(layer.x), *layer.h_0.shape), np.float32)
    for t in reversed(range(len(y))) if layer.reverse else range(len(y)):
        z = operand(layer.x[t].astype(np.float64)) @ w_ih.T + operand(state(h)) @ w_hh.T + bias
        y[t] = store(activation(z))
        h = y[t].astype(np.float64)
    return y


def judged(layer: Layer, y: np.ndarray) -> tuple[Residual, str]:
    plain = step_residual(
        layer.cell,
        layer.x,
        layer.h_0,
        y,
        reverse=layer.reverse,
        arithmetic=ARITHMETICS[y.dtype.name],
    )
    return plain, name_precision(plain, layer.cell, layer.x, layer.h_0, y, reverse=layer.reverse)


@pytest.fixture(params=["tanh", "relu"])
def layer(request) -> Layer:
    return make_layer(np.random.default_rng(7), 24, 32, 30, gain=0.8, nonlinearity=request.param)


TF32, TRUNCATED, BFLOAT16 = keep_bits(10), keep_bits(10, nearest=False), keep_bits(7)


class TestRounding:
    @given(FINITE32, st.integers(1, 22))
    def test_it_is_idempotent_odd_and_near(self, value, bits):
        rounded = float(keep_bits(bits)(np.array([value]))[0])
        if not np.isfinite(rounded):  # the largest floats round up to infinity, as hardware does
            assert abs(value) > 3.3e38
            return
        assert float(keep_bits(bits)(np.array([rounded]))[0]) == rounded
        assert float(keep_bits(bits)(np.array([-value]))[0]) == -rounded
        assert abs(rounded - value) <= max(abs(value), 2.0**-126) * 2.0 ** -(bits + 1)

    @given(FINITE32, st.integers(1, 22))
    def test_truncation_goes_towards_zero_by_less_than_one_unit(self, value, bits):
        cut = float(keep_bits(bits, nearest=False)(np.array([value]))[0])
        assert abs(cut) <= abs(value)
        assert abs(value) - abs(cut) < max(abs(value), 2.0**-126) * 2.0**-bits
        assert np.signbit(cut) == np.signbit(value)

    @given(FINITE32)
    def test_ten_bits_within_its_range_are_float16(self, value):
        if 2.0**-14 <= abs(value) < 65504:
            with np.errstate(over="ignore"):
                expected = float(np.float16(value))
            assert float(TF32(np.array([value]))[0]) == expected

    def test_ties_go_to_even(self):
        ulp = 2.0**-7
        ties = np.array([1 + ulp / 2, 1 + 3 * ulp / 2, -(1 + ulp / 2)])
        assert BFLOAT16(ties).tolist() == [1.0, 1 + 2 * ulp, -1.0]

    def test_nan_and_infinity_stay_what_they_are(self):
        rounded = TF32(np.array([np.nan, np.inf, -np.inf]))
        assert np.isnan(rounded[0])
        assert rounded[1:].tolist() == [np.inf, -np.inf]


class TestNames:
    def test_a_correct_run_is_float32(self, layer):
        plain, name = judged(layer, run_torch(layer))
        assert (plain.passed, name) == (True, "float32")

    def test_a_correct_run_in_float64_is_float64(self):
        layer = make_layer(np.random.default_rng(1), 5, 6, 20, dtype="float64")
        assert judged(layer, run_torch(layer))[1] == "float64"

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_a_correct_run_in_a_coarse_type_is_called_by_it(self, layer, dtype):
        layer = make_layer(np.random.default_rng(1), 5, 6, 20, nonlinearity=layer.cell.nonlinearity, dtype=dtype)
        assert judged(layer, run_torch(layer))[1] == dtype

    def test_a_float64_network_run_in_float32_is_called_float32(self):
        layer = make_layer(np.random.default_rng(1), 5, 6, 20, dtype="float64")
        narrow = Layer(
            Cell(*(array.astype(np.float32) for array in layer.cell[:4]), layer.cell.nonlinearity),
            layer.x.astype(np.float32),
            layer.h_0.astype(np.float32),
            False,
        )
        layer = Layer(
            Cell(*(array.astype(np.float64) for array in narrow.cell[:4]), layer.cell.nonlinearity),
            narrow.x.astype(np.float64),
            narrow.h_0.astype(np.float64),
            False,
        )
        plain, name = judged(layer, run_torch(narrow).astype(np.float64))
        assert not plain.passed
        assert name == "float32"

    @pytest.mark.parametrize(
        ("name", "rounding"),
        [
            ("TF32", {"operand": TF32, "weight": TF32}),
            ("TF32", {"operand": TRUNCATED, "weight": TRUNCATED}),
            ("bfloat16", {"operand": BFLOAT16, "weight": BFLOAT16}),
            ("bfloat16 weights", {"weight": BFLOAT16}),
            ("float16 weights", {"weight": as_float16}),
            ("int8 weights", {"weight": as_int8}),
            ("int8 weights, per channel", {"weight": lambda values: as_int8(values, 1)}),
            ("float16 storage", {"operand": as_float16, "weight": as_float16, "store": as_float16}),
        ],
        ids=["TF32", "TF32 cut", "bf16", "bf16 weights", "fp16 weights", "int8", "int8 per channel", "fp16 storage"],
    )
    @pytest.mark.parametrize("reverse", [False, True])
    def test_an_emulated_arithmetic_is_rejected_and_called_by_its_name(self, layer, name, rounding, reverse):
        layer = layer._replace(reverse=reverse)
        plain, found = judged(layer, emulate(layer, **rounding))
        assert plain.max_q > GATE
        assert found == name

    def test_an_accumulator_of_its_own_is_still_named(self, layer):
        """TF32 hardware whose sums are a little off: no hypothesis explains every step, one explains most of it."""
        y = emulate(layer, TF32, TF32, lambda values: values * (1 + 2.0**-20))
        plain, found = judged(layer, y)
        assert plain.max_q > GATE
        assert found == "TF32"

    def test_a_coarse_run_that_fits_no_hypothesis_gets_its_band(self, layer):
        """Nine bits: coarser than TF32 and finer than bfloat16, so only the size of the noise can tell."""
        plain, found = judged(layer, emulate(layer, keep_bits(9), keep_bits(9)))
        assert plain.max_q > GATE
        assert found in ("10-bit (TF32, float16)", "bfloat16")


def as_integers(h: np.ndarray) -> np.ndarray:
    return quantised_state(h).values


class TestInt8:
    """The file asks for products of 8-bit integers: such a run is right, a finer one too, and nothing else."""

    @pytest.fixture(params=["tanh", "relu", "identity"])
    def layer(self, request) -> Layer:
        layer = make_layer(np.random.default_rng(7), 24, 70, 30, gain=0.8, nonlinearity=request.param)
        return layer._replace(cell=layer.cell._replace(weight_hh=dequantised(*quantised(layer.cell.weight_hh), 70)))

    @staticmethod
    def asked(layer: Layer, y: np.ndarray, asked: str = "int8") -> tuple[Residual, str]:
        return judge_as_asked(asked, layer.cell, layer.x, layer.h_0, y, reverse=layer.reverse)

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_state_of_8_bits_is_what_was_asked_for_and_no_float32(self, layer, reverse):
        layer = layer._replace(reverse=reverse)
        y = emulate(layer, state=as_integers)
        found, name = self.asked(layer, y)
        assert (name, found.judged) == ("int8", y.size)
        assert found.max_q < 1.5
        plain, name = self.asked(layer, y, "float32")
        assert plain.max_q > 1000
        assert name != "int8"

    def test_a_state_of_float32_is_finer_and_right(self, layer):
        found, name = self.asked(layer, emulate(layer))
        assert found.max_q <= GATE
        assert name == "float32"

    @pytest.mark.parametrize(
        "state",
        [as_int8, lambda h: as_int8(h, 1), lambda h: np.trunc(quantised_state(h).values * 64) / 64],
        ids=["one scale", "one scale a row", "coarser"],
    )
    def test_a_state_rounded_otherwise_is_rejected_and_is_no_arithmetic(self, layer, state):
        found, name = self.asked(layer, emulate(layer, state=state))
        assert found.max_q > GATE
        assert name == "WRONG"

    def test_tf32_is_coarser_than_float32_and_is_called_so(self, layer):
        found, name = self.asked(layer, emulate(layer, TF32, TF32))
        assert found.max_q > GATE
        assert name == "TF32"

    @pytest.mark.parametrize("fault", ["bias", "code", "scale"])
    def test_a_fault_is_rejected_and_is_no_arithmetic(self, layer, fault):
        cell = layer.cell
        bias, weight = cell.bias_ih.copy(), cell.weight_hh.copy()
        if fault == "bias":
            bias[3] += np.float32(1e-4)
        elif fault == "code":
            weight[3, 40] += np.abs(weight[3, 32:64]).max() / 127
        else:
            weight[3, 32:64] *= np.float32(1.01)
        wrong = layer._replace(cell=cell._replace(bias_ih=bias, weight_hh=weight))
        found, name = self.asked(layer, emulate(wrong, state=as_integers))
        assert found.first is not None
        assert (found.first.unit, name) == (3, "WRONG")

    def test_in_the_middle_of_two_integers_both_are_right_and_what_is_beyond_the_gate_is_not(self, layer):
        layer = layer._replace(x=layer.x[:1], h_0=layer.h_0.copy())
        layer.h_0[:, 32:64] = 0.0
        layer.h_0[:, 32:34] = 1.0, 40.5 / 127
        scale = float(np.float32(1) / np.float32(127))
        for integer, right in ((35, False), (40, True), (41, True), (46, False)):

            def state(h: np.ndarray, integer: int = integer) -> np.ndarray:
                values = as_integers(h)
                values[:, 33] = integer * scale
                return values

            assert self.asked(layer, emulate(layer, state=state))[0].passed is right


class TestWrong:
    def test_another_network_is_no_arithmetic(self, layer):
        other = layer._replace(cell=layer.cell._replace(weight_hh=np.ascontiguousarray(layer.cell.weight_hh.T)))
        assert judged(layer, run_torch(other))[1] == "WRONG"

    def test_a_fault_of_one_unit_is_no_arithmetic(self, layer):
        bias = layer.cell.bias_ih.copy()
        bias[3] += 1e-3
        other = layer._replace(cell=layer.cell._replace(bias_ih=bias))
        plain, found = judged(layer, run_torch(other))
        assert not plain.passed
        assert found == "WRONG"

    @pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
    def test_what_no_rounding_makes_is_wrong(self, value):
        layer = make_layer(np.random.default_rng(0), 3, 4, 6, nonlinearity="relu")
        y = run_torch(layer).copy()
        y[2, 1, 0] = value
        assert judged(layer, y)[1] == "WRONG"

    @pytest.mark.parametrize(("dtype", "off"), [("float64", 0.01), ("float16", 0.1), ("bfloat16", 0.5)])
    def test_a_network_of_another_type_with_a_fault_is_wrong(self, dtype, off):
        layer = make_layer(np.random.default_rng(1), 5, 6, 20, dtype=dtype)
        y = run_torch(layer).copy()
        y[3] += y.dtype.type(off)
        assert judged(layer, y)[1] == "WRONG"


def test_float16_is_only_supposed_where_every_answer_is_one():
    layer = make_layer(np.random.default_rng(0), 3, 4, 6)
    names = {name for name, _ in hypotheses(run_torch(layer))}
    stored = {name for name, _ in hypotheses(as_float16(run_torch(layer)).astype(np.float32))}
    assert stored - names == {"float16 storage", "float16"}
