"""Answers are judged by what they are: the right ones pass, each kind of wrong one gets its code and its place."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rnn_export.element_types import FLOATS
from rnn_export.forms import network_of
from rnn_export.judgement import Answers, judge, ratio_to_torch, shape_problem
from rnn_export.oracle import Trajectory, run_oracle
from rnn_export.precision import keep_bits
from rnn_export.quantised_state import quantised_state
from rnn_export.residual import GATE
from rnn_export.rounding import ARITHMETICS
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights
from tests.strategies import every_spec

T, B = 7, 3


def run(weights: Weights, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, Answers, Trajectory]:
    """x, h_0, the float64 answers rounded once per step, and the truth."""
    spec, rng = weights.spec, np.random.default_rng(seed)
    x = (rng.normal(size=(T, B, spec.input_size)) * scale).astype(weights.dtype)
    h_0 = rng.uniform(-1, 1, (len(spec.cells()), B, spec.hidden_size)).astype(weights.dtype)
    layers, h_n, below = [], [], x
    D = spec.num_directions
    for layer in range(spec.num_layers):
        parts = []
        for direction in range(D):
            single = one_cell(weights, layer, direction)
            start = h_0[layer * D + direction]
            states, h = np.empty((T, B, spec.hidden_size), weights.dtype), start
            for t in reversed(range(T)) if direction else range(T):
                h = run_oracle(single, below[t : t + 1], h[None]).output[0].astype(weights.dtype)
                states[t] = h
            parts.append(states)
            h_n.append(h)
        below = np.concatenate(parts, -1)
        layers.append(below)
    return x, h_0, Answers(below, np.stack(h_n), layers), run_oracle(weights, x, h_0)


def one_cell(weights: Weights, layer: int, direction: int) -> Weights:
    cell, spec = weights.cell(layer, direction), weights.spec
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    one = RNNSpec(spec.layer_input_size(layer), spec.hidden_size, nonlinearity=spec.nonlinearity)
    return Weights(one, dict(zip(names, cell[:4], strict=True)))


def changed(array: np.ndarray, place: tuple[int, ...], by: float) -> np.ndarray:
    other = array.copy()
    other[place] += array.dtype.type(by)
    return other


@pytest.fixture(params=["tanh", "relu"])
def weights(request) -> Weights:
    return Weights.random(RNNSpec(3, 4, 2, request.param, bidirectional=True), 3)


class TestRightAnswers:
    @pytest.mark.parametrize("spec", every_spec(), ids=str)
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_pass_for_every_network(self, spec, dtype):
        weights = Weights.random(spec, 0, dtype)
        found = judge(weights, *run(weights))
        assert (found.code, found.detail, found.precision) == ("", "", dtype)
        assert found.residual <= GATE
        assert found.judged == T * B * len(spec.cells()) * spec.hidden_size
        assert found.max_abs < 100 * ARITHMETICS[dtype].unit_roundoff

    def test_without_a_last_state_are_judged_all_the_same(self, weights):
        x, h_0, answers, truth = run(weights)
        assert judge(weights, x, h_0, replace(answers, h_n=None), truth).residual <= GATE

    def test_of_one_layer_need_no_layers(self):
        weights = Weights.random(RNNSpec(3, 4), 0)
        x, h_0, answers, truth = run(weights)
        found = judge(weights, x, h_0, replace(answers, layers=None), truth)
        assert found.residual <= GATE

    def test_of_several_layers_that_are_not_shown_have_no_residual(self, weights):
        x, h_0, answers, truth = run(weights)
        found = judge(weights, x, h_0, replace(answers, layers=None), truth)
        assert (found.code, found.residual, found.residuals, found.judged) == ("", None, None, 0)
        assert found.max_abs < 1e-5
        assert found.errors.shape == (T,)
        assert 0 < found.errors.max() <= found.max_abs

    def test_of_an_empty_batch_are_judged_to_hold_nothing(self):
        weights = Weights.random(RNNSpec(3, 4), 0)
        x, h_0 = np.zeros((5, 0, 3), np.float32), np.zeros((1, 0, 4), np.float32)
        answers = Answers(np.zeros((5, 0, 4), np.float32), h_0, None)
        found = judge(weights, x, h_0, answers, run_oracle(weights, x, h_0))
        assert (found.code, found.judged) == ("", 0)

    def test_that_exercise_nothing_are_said_to(self):
        spec = RNNSpec(2, 3)
        weights = Weights(spec, {name: np.zeros(shape, np.float32) for name, shape in spec.weight_shapes().items()})
        x, h_0, answers, truth = run(weights)
        found = judge(weights, x, h_0, answers, truth)
        assert "100% of the elements could not have shown a fault" in found.notes

    def test_that_overflow_are_counted_and_not_judged(self):
        weights = Weights.random(RNNSpec(3, 4, nonlinearity="relu"), 0)
        x, h_0, _, truth = run(weights, scale=1e37)
        x[3] = 3e38
        truth = run_oracle(weights, x, h_0)
        assert np.abs(truth.output).max() < 3.4e38  # every answer is a float32, though not every sum is judged
        answers = Answers(truth.output.astype(np.float32), None, None)
        found = judge(weights, x, h_0, answers, truth)
        judged = [int(note.split()[0]) for note in found.notes if note.endswith("elements overflow, not judged")]
        assert judged == [T * B * 4 - found.judged]
        assert 0 < judged[0] < T * B * 4


class TestWrongAnswers:
    @settings(max_examples=40)
    @given(st.integers(0, 1), st.integers(0, 1), st.integers(0, T - 2), st.integers(0, B - 1), st.integers(0, 3))
    def test_one_wrong_state_is_found_at_its_place(self, layer, direction, t, b, unit):
        weights = Weights.random(RNNSpec(3, 4, 2, bidirectional=True), 3)
        x, h_0, answers, truth = run(weights)
        layers = list(answers.layers)
        layers[layer] = changed(layers[layer], (t + 1, b, direction * 4 + unit), 0.3)
        found = judge(weights, x, h_0, replace(answers, output=layers[-1], layers=layers, h_n=None), truth)
        assert (found.code, found.diverges) == ("step-residual", False)
        where = f"layer {layer}" + (" in reverse" if direction else "")
        assert f"first at t={t + 1} b={b} unit={unit} of {where};" in found.detail
        assert found.element == (t + 1, b, unit, layer, direction)
        assert found.residuals.shape == found.errors.shape == (T,)
        assert found.residuals.max() == found.residual
        assert found.residuals[t + 1] > GATE
        assert found.errors.max() <= found.max_abs

    def test_a_last_state_that_is_no_last_state_is_found(self, weights):
        x, h_0, answers, truth = run(weights)
        for row, (layer, direction) in enumerate(weights.spec.cells()):
            wrong = changed(answers.h_n, (row, 1, 2), 1e-2)
            found = judge(weights, x, h_0, replace(answers, h_n=wrong), truth)
            assert found.code == "step-residual"
            end = 0 if direction else T - 1
            where = f"layer {layer}{' in reverse' if direction else ''}"
            assert f"first at t={end} b=1 unit=2 of h_n, {where}" in found.detail
            assert found.element == (end, 1, 2, layer, direction)

    def test_swapped_last_states_are_found(self, weights):
        x, h_0, answers, truth = run(weights)
        found = judge(weights, x, h_0, replace(answers, h_n=answers.h_n[[1, 0, 2, 3]]), truth)
        assert found.code == "step-residual"

    def test_the_network_with_one_weight_off_is_not_this_network(self):
        weights = Weights.random(RNNSpec(3, 16, 2, bidirectional=True), 3)
        arrays = {**weights, "weight_hh_l1_reverse": changed(weights["weight_hh_l1_reverse"], (5, 1), 1e-4)}
        x, h_0, answers, _ = run(Weights(weights.spec, arrays))
        found = judge(weights, x, h_0, answers, run(weights)[3])
        assert (found.code, found.precision) == ("step-residual", "WRONG")
        assert "unit=5 of layer 1 in reverse; no arithmetic explains it" in found.detail

    def test_the_other_nonlinearity_is_not_this_network(self, weights):
        other = "relu" if weights.spec.nonlinearity == "tanh" else "tanh"
        found = judge(Weights(replace(weights.spec, nonlinearity=other), weights), *run(weights))
        assert found.code == "step-residual"

    def test_a_nan_from_finite_operands_is_wrong(self, weights):
        x, h_0, answers, truth = run(weights)
        layers = [answers.layers[0], changed(answers.layers[1], (3, 0, 1), np.nan)]
        found = judge(weights, x, h_0, replace(answers, output=layers[1], layers=layers, h_n=None), truth)
        assert (found.code, found.residual, found.max_abs) == ("step-residual", np.inf, np.inf)


class TestAskedPrecision:
    @pytest.fixture
    def in_tf32(self) -> tuple[Weights, np.ndarray, np.ndarray, Answers, Trajectory]:
        """A run with both operands rounded to TF32."""
        weights, cut = Weights.random(RNNSpec(8, 16), 1), keep_bits(10)
        x, h_0, _, truth = run(weights)
        rounded = {name: cut(array.astype(float)) if "weight" in name else array for name, array in weights.items()}
        states, h = np.empty((T, B, 16), np.float32), h_0[0].astype(float)
        for t in range(T):
            z = cut(x[t].astype(float)) @ rounded["weight_ih_l0"].T + cut(h) @ rounded["weight_hh_l0"].T
            states[t] = np.tanh(z + rounded["bias_ih_l0"] + rounded["bias_hh_l0"])
            h = states[t].astype(float)
        return weights, x, h_0, Answers(states, states[-1:], None), truth

    def test_tf32_is_no_float32_and_the_remedy_is_said(self, in_tf32):
        found = judge(*in_tf32)
        assert (found.code, found.precision) == ("step-residual", "TF32")
        assert "you asked for float32, this run is TF32: on CUDA, use_tf32=0" in found.detail

    def test_tf32_is_what_was_asked_for(self, in_tf32):
        found = judge(*in_tf32, asked="TF32")
        assert (found.code, found.precision) == ("", "TF32")
        assert found.residual <= GATE  # in TF32's own rounding
        assert judge(*in_tf32).residual > GATE

    def test_whoever_asks_for_tf32_still_gets_no_wrong_answer(self, in_tf32):
        weights, x, h_0, answers, truth = in_tf32
        wrong = replace(answers, output=changed(answers.output, (4, 1, 3), 0.2), h_n=None)
        assert judge(weights, x, h_0, wrong, truth, asked="TF32").code == "step-residual"


class TestMasks:
    def with_nan(self, nonlinearity: str):
        weights = Weights.random(RNNSpec(3, 4, nonlinearity=nonlinearity), 0)
        x, h_0, answers, _ = run(weights)
        x = changed(x, (2, 1, 0), np.nan)
        truth = run_oracle(weights, x, h_0)
        states = answers.output.copy()
        states[2:, 1] = np.nan
        return weights, x, h_0, Answers(states, states[-1:].copy(), None), truth

    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
    def test_nan_where_ieee_has_it_passes_and_has_no_distance(self, nonlinearity):
        found = judge(*self.with_nan(nonlinearity))
        assert (found.code, found.max_abs) == ("", None)

    def test_relu_that_swallows_a_nan_is_a_documented_difference(self):
        weights, x, h_0, answers, truth = self.with_nan("relu")
        swallowed = np.nan_to_num(answers.output, nan=0.0)
        h_n = swallowed[-1:].copy()
        found = judge(weights, x, h_0, replace(answers, output=swallowed, h_n=h_n), truth)
        # From the swallowed zeros the later steps go on as the recurrence says, or they are wrong.
        assert found.code in ("nan-swallowed", "step-residual")
        assert found.diverges is (found.code == "nan-swallowed")
        only_then = answers.output.copy()
        only_then[2, 1] = 0
        only_then[3:] = run_oracle(weights, x[3:], only_then[2][None]).output
        found = judge(weights, x, h_0, Answers(only_then, only_then[-1:].copy(), None), truth)
        assert (found.code, found.diverges) == ("nan-swallowed", True)
        assert "first at t=2 b=1 unit=0 of layer 0" in found.detail

    def test_tanh_that_swallows_a_nan_is_wrong(self):
        weights, x, h_0, answers, truth = self.with_nan("tanh")
        states = answers.output.copy()
        states[2, 1] = 0
        states[3:] = run_oracle(weights, x[3:], states[2][None]).output
        found = judge(weights, x, h_0, Answers(states, states[-1:].copy(), None), truth)
        assert (found.code, found.diverges) == ("nan-misplaced", False)

    def test_where_states_are_rounded_to_integers_only_a_nan_of_the_state_may_be_lost(self):
        weights, x, h_0, answers, truth = self.with_nan("tanh")
        finite = replace(answers, output=np.nan_to_num(answers.output, nan=0.5), layers=None)
        found = judge(weights, x, h_0, finite, truth, "int8")
        assert (found.code in ("nan-misplaced", "step-residual"), found.diverges) == (True, False)

    def test_a_nan_in_another_row_is_wrong(self):
        weights, x, h_0, answers, truth = self.with_nan("tanh")
        found = judge(weights, x, h_0, replace(answers, output=changed(answers.output, (4, 0, 1), np.nan)), truth)
        assert found.code == "step-residual"

    def test_a_fault_elsewhere_outranks_a_swallowed_nan(self):
        weights, x, h_0, answers, truth = self.with_nan("relu")
        states = answers.output.copy()
        states[2, 1] = 0
        states[3:] = run_oracle(weights, x[3:], states[2][None]).output
        found = judge(weights, x, h_0, Answers(changed(states, (5, 0, 0), 0.4), states[-1:].copy(), None), truth)
        assert (found.code, found.diverges) == ("step-residual", False)

    @pytest.mark.filterwarnings("error")
    def test_without_layers_an_infinity_has_a_sign_and_its_distance_no_meaning(self):
        weights = Weights.random(RNNSpec(3, 4, 2, nonlinearity="identity"), 0)
        x, h_0, answers, truth = run(weights)
        x = changed(x, (1, 0, 0), np.inf)
        truth = Trajectory(changed(truth.output, (1, 0, 0), np.inf), truth.h_n)
        right = replace(answers, output=changed(answers.output, (1, 0, 0), np.inf), layers=None)
        assert judge(weights, x, h_0, right, truth).code == ""
        wrong = replace(right, output=changed(answers.output, (1, 0, 0), -np.inf))
        assert judge(weights, x, h_0, wrong, truth).code == "nan-misplaced"

    def test_without_layers_only_the_place_of_a_nan_is_compared(self):
        weights = Weights.random(RNNSpec(3, 4, 2), 0)
        x, h_0, answers, _ = run(weights)
        x = changed(x, (2, 1, 0), np.nan)
        truth = run_oracle(weights, x, h_0)
        right = Answers(truth.output.astype(np.float32), None, None)
        assert judge(weights, x, h_0, right, truth).code == ""
        wrong = replace(right, output=answers.output)
        assert judge(weights, x, h_0, wrong, truth).code == "nan-misplaced"


class TestInt8:
    """Answers of a file that asks for products of 8-bit integers."""

    @staticmethod
    def states(weights: Weights, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        """(T, B, H), each state rounded to 8 bits before it is multiplied."""
        found = np.empty((len(x), *h.shape), np.float32)
        for t in range(len(x)):
            state = quantised_state(h.astype(np.float64)).values
            h = found[t] = run_oracle(weights, x[t : t + 1], state[None]).output[0]
        return found

    def run(self, spec: RNNSpec, x: np.ndarray | None = None):
        weights = network_of("int8", Weights.random(spec, 3))
        default, h_0, _, _ = run(weights)
        x = default if x is None else x
        states = self.states(weights, x, h_0[0])
        return weights, x, h_0, Answers(states, states[-1:].copy(), None), run_oracle(weights, x, h_0)

    def test_are_right_and_are_said_to_be_int8_with_no_word_about_amplified_rounding(self):
        found = judge(*self.run(RNNSpec(3, 40)), "int8")
        assert (found.code, found.precision, found.notes) == ("", "int8", ())
        assert found.max_abs > 1e-4
        assert judge(*self.run(RNNSpec(3, 40))).code == "step-residual"

    def test_are_still_int8_with_a_head_whose_product_is_float32(self):
        weights, x, h_0, answers, truth = self.run(RNNSpec(3, 40))
        head = Head(np.ones((2, 40), np.float32), np.zeros(2, np.float32))
        prediction = answers.output.astype(np.float64) @ head.weight.T.astype(np.float64)
        answers = replace(answers, prediction=prediction.astype(np.float32))
        found = judge(weights, x, h_0, answers, truth, "int8", head=head)
        assert (found.code, found.precision) == ("", "int8")
        rounded = quantised_state(answers.output.astype(np.float64)).values @ head.weight.T.astype(np.float64)
        wrong = replace(answers, prediction=rounded.astype(np.float32))
        assert judge(weights, x, h_0, wrong, truth, "int8", head=head).code == "step-residual"

    def test_that_are_the_other_activations_are_said_to_be(self):
        weights, *rest = self.run(RNNSpec(3, 40))
        found = judge(Weights(replace(weights.spec, nonlinearity="relu"), weights), *rest, "int8")
        assert found.code == "step-residual"
        assert "it computes tanh, not relu" in found.detail

    @pytest.mark.parametrize("nonlinearity", ["tanh", "identity"])
    def test_that_lose_a_nan_of_the_state_are_a_documented_difference(self, nonlinearity):
        x = run(Weights.random(RNNSpec(3, 40), 3))[0]
        x[2, 1] = np.nan
        weights, _, h_0, answers, truth = self.run(RNNSpec(3, 40, nonlinearity=nonlinearity), x)
        assert np.isnan(answers.output[3, 1]).all()
        assert judge(weights, x, h_0, answers, truth, "int8").code == ""
        lost = answers.output.copy()
        lost[3:, 1] = self.states(weights, x[3:, 1:2], np.zeros((1, 40)))[:, 0]
        found = judge(weights, x, h_0, Answers(lost, lost[-1:].copy(), None), truth, "int8")
        assert (found.code, found.diverges) == ("nan-swallowed", True)
        assert "first at t=3 b=1" in found.detail

    def test_after_an_infinite_state_are_not_judged_but_for_a_nan_that_is_gone(self):
        arrays = {"weight_ih_l0": np.zeros((2, 1)), "weight_hh_l0": np.array([[0.5, 0.25], [0.5, 0.5]])}
        spec = RNNSpec(1, 2, nonlinearity="identity", bias=False)
        weights = Weights(spec, {name: array.astype(np.float32) for name, array in arrays.items()})
        for other, value, code in (
            (1.0, np.nan, ""),
            (1.0, 5.0, ""),
            (np.nan, np.nan, ""),
            (np.nan, 5.0, "nan-swallowed"),
        ):
            x, h_0 = np.zeros((1, 1, 1), np.float32), np.array([[[np.inf, other]]], np.float32)
            answers = Answers(np.full((1, 1, 2), value, np.float32), None, None)
            found = judge(weights, x, h_0, answers, run_oracle(weights, x, h_0), "int8")
            assert found.code == code
            unjudged = other == 1.0  # IEEE says infinity there
            assert ("2 elements overflow, not judged" in found.notes) is unjudged


class TestRatio:
    WEIGHTS = Weights.random(RNNSpec(3, 4), 0)
    TRUTH = Trajectory(np.full((2, 1, 4), 0.5), np.full((1, 1, 4), 0.5))

    def test_it_is_the_quotient_of_the_errors(self):
        assert ratio_to_torch(4e-6, 1e-6, self.TRUTH, self.WEIGHTS) == pytest.approx(4.0)

    def test_a_perfect_torch_counts_as_one_rounding_of_the_largest_output(self):
        assert ratio_to_torch(2.0**-24, 0.0, self.TRUTH, self.WEIGHTS) == 2.0
        for dtype, u in (("float64", 2.0**-53), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)):
            assert ratio_to_torch(u, 0.0, self.TRUTH, Weights.random(RNNSpec(3, 4), 0, dtype)) == 2.0

    @pytest.mark.parametrize("missing", [(None, 1e-6, TRUTH), (1e-6, None, TRUTH), (1e-6, 1e-6, None)])
    def test_there_is_none_without_its_parts(self, missing):
        assert ratio_to_torch(*missing, self.WEIGHTS) is None

    def test_zero_over_zero_is_zero_and_anything_over_zero_is_infinite(self):
        nothing = Trajectory(np.zeros((2, 1, 4)), np.zeros((1, 1, 4)))
        assert ratio_to_torch(0.0, 0.0, nothing, self.WEIGHTS) == 0.0
        assert ratio_to_torch(1e-30, 0.0, nothing, self.WEIGHTS) == np.inf

    @given(st.floats(0, 1e30), st.floats(0, 1e30))
    def test_it_is_never_negative_and_never_nan(self, error, torch_error):
        ratio = ratio_to_torch(error, torch_error, self.TRUTH, self.WEIGHTS)
        assert ratio is not None
        assert ratio >= 0


class TestShapes:
    SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)

    @given(SHAPES, SHAPES)
    def test_only_the_very_shape_is_right_and_nothing_is_broadcast(self, expected, found):
        problem = shape_problem({"y": np.zeros(found, np.float32)}, {"y": expected}, np.dtype("float32"))
        assert (problem == "") == (expected == found)

    def test_what_is_wrong_is_said(self):
        float32 = np.dtype("float32")
        assert shape_problem({}, {"y": (2,)}, float32) == "the output y is missing"
        assert shape_problem({"y": np.zeros(2)}, {"y": (2,)}, float32) == "y is float64, not float32"
        assert shape_problem({"y": np.zeros((3, 1), np.float32)}, {"y": (3,)}, float32) == "y has shape [3, 1], not [3]"

    def test_more_than_was_asked_for_is_no_problem(self):
        found = {"y": np.zeros(2, np.float32), "layer_0": np.zeros(9)}
        assert shape_problem(found, {"y": (2,)}, np.dtype("float32")) == ""
