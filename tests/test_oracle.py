import numpy as np
import pytest
import torch

from rnn_export.module import to_torch
from rnn_export.oracle import activation, head_input, run_oracle, state_rounding_error
from rnn_export.quantised_state import quantised_state
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights
from tests.strategies import every_spec


def run_both(weights: Weights, x: np.ndarray, h_0: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(output, h_n) by the oracle and by torch's float64, both time-major."""
    batch_first = weights.spec.batch_first
    with torch.no_grad():
        layout = torch.tensor(x.swapaxes(0, 1) if batch_first else x)
        output, h_n = to_torch(weights).double()(layout.double(), torch.tensor(h_0).double())
    truth = run_oracle(weights, x, h_0)
    return [tuple(truth), ((output.transpose(0, 1) if batch_first else output).numpy(), h_n.numpy())]


def draw(spec: RNNSpec, length: int = 7, dtype: str = "float64") -> tuple[Weights, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(length, 3, spec.input_size)).astype(dtype)
    h_0 = rng.normal(size=(len(spec.cells()), 3, spec.hidden_size)).astype(dtype)
    return Weights.random(spec, 11, dtype), x, h_0


@pytest.mark.parametrize("spec", every_spec(), ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_oracle_is_torchs_float64_rnn_whatever_the_type_of_the_weights(spec, dtype):
    ours, torchs = run_both(*draw(spec, dtype=dtype))
    for mine, other in zip(ours, torchs, strict=True):
        assert mine.dtype == np.float64
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-14)


@pytest.mark.parametrize("spec", every_spec(), ids=str)
def test_nan_stays_where_torch_keeps_it(spec):
    weights, x, h_0 = draw(spec)
    x[3, 1, 0], h_0[0, 2, 1] = np.nan, np.nan
    ours, torchs = run_both(weights, x, h_0)
    for mine, other in zip(ours, torchs, strict=True):
        assert np.isnan(mine).any()
        assert not np.isnan(mine[:, 0]).any()
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-14, equal_nan=True)


def test_infinity_and_overflow_pass_without_a_warning():
    spec = RNNSpec(2, 2, nonlinearity="relu", bias=False)
    matrix = np.full((2, 2), 1e200)
    weights = Weights(spec, {"weight_ih_l0": matrix, "weight_hh_l0": matrix})
    output = run_oracle(weights, np.ones((2, 1, 2)), np.zeros((1, 1, 2))).output
    np.testing.assert_array_equal(output[0], 2e200)
    np.testing.assert_array_equal(output[1], np.inf)


def test_a_sequence_of_length_zero_leaves_the_state():
    weights, x, h_0 = draw(RNNSpec(3, 4, 2, bidirectional=True), length=0)
    output, h_n = run_oracle(weights, x, h_0)
    assert output.shape == (0, 3, 8)
    np.testing.assert_array_equal(h_n, h_0)


def test_the_activations_keep_nan():
    z = np.array([-2.0, -0.0, 0.5, np.inf, np.nan])
    np.testing.assert_array_equal(activation("relu", z), [0, 0, 0.5, np.inf, np.nan])
    np.testing.assert_array_equal(activation("identity", z), z)
    np.testing.assert_allclose(activation("tanh", z), [-0.9640275800758169, 0, 0.46211715726000973, 1, np.nan])


def test_only_the_recurrent_product_sees_what_is_made_of_a_state():
    weights, x, h_0 = draw(RNNSpec(3, 40, nonlinearity="identity"))
    cell, h = weights.cell(0, 0), h_0[0]
    found = run_oracle(weights, x, h_0, multiplied=lambda h: 2 * h)
    for t, expected in enumerate(found.output[:]):
        h = x[t] @ cell.weight_ih.T + cell.bias_ih + cell.bias_hh + 2 * h @ cell.weight_hh.T
        np.testing.assert_allclose(h, expected, rtol=1e-12)


def test_what_rounding_the_states_changes_is_its_largest_effect_on_any_output():
    weights, x, h_0 = draw(RNNSpec(3, 40, 2, bidirectional=True), dtype="float32")
    exact = run_oracle(weights, x, h_0)
    rounded = run_oracle(weights, x, h_0, multiplied=lambda h: quantised_state(h).values)
    off = max(np.abs(one - other).max() for one, other in zip(exact, rounded, strict=True))
    assert state_rounding_error(weights, None, x, h_0) == off
    assert 1e-4 < off < 0.1
    head = Head(np.full((2, 80), 10, np.float32), np.zeros(2, np.float32))
    read = [head_input(head, weights.spec, x, h_0, run.output)[:] @ head.weight.T for run in (exact, rounded)]
    assert state_rounding_error(weights, head, x, h_0) == np.abs(read[0] - read[1]).max() > off
