"""Weights of 8 bits: to nearest, exactly a float32 network, and the same every time."""

import numpy as np
import pytest

from rnn_export.forms import _quantisation
from rnn_export.forms._quantisation import computed_network, dequantised, quantised, quantised_matrices
from rnn_export.quantised_state import BLOCK
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights


def matrix_of(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 32), (5, 100), (300, 64)])
def test_every_weight_is_the_nearest_of_its_block(rows, columns):
    matrix = matrix_of(rows, columns)
    codes, scales = quantised(matrix)
    blocks = -(-columns // BLOCK)
    assert (codes.dtype, codes.shape) == (np.uint8, (rows, blocks, BLOCK))
    assert (scales.dtype, scales.shape) == (np.float32, (rows * blocks,))
    of_each = np.repeat(scales.reshape(rows, blocks), BLOCK, axis=1)[:, :columns]
    assert (np.abs(dequantised(codes, scales, columns) - matrix) <= of_each * 0.5001).all()
    integers = codes.astype(int) - 128
    assert (np.abs(integers).max(-1) == 127).all()
    assert not integers.reshape(rows, -1)[:, columns:].any()


def test_the_network_that_is_left_has_float32_weights_without_a_second_rounding():
    codes, scales = quantised(matrix_of(64, 64))
    exact = (codes.astype(np.float64) - 128) * scales.astype(np.float64).reshape(64, -1, 1)
    assert (dequantised(codes, scales, 64) == exact.reshape(64, 64)).all()


def test_it_is_the_same_again_also_of_what_is_left():
    matrix = matrix_of(40, 50)
    first, again = quantised(matrix), quantised(dequantised(*quantised(matrix), 50))
    for one, other in zip(first, again, strict=True):
        assert one.tobytes() == other.tobytes()


def test_large_matrices_are_quantised_rows_at_a_time_to_the_same(monkeypatch):
    whole = quantised(matrix_of(10, 40))
    monkeypatch.setattr(_quantisation, "ROWS", 3)
    for one, other in zip(whole, quantised(matrix_of(10, 40)), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("value", [0.0, 1e-44, 3.0e38])
def test_a_block_of_zeros_and_the_smallest_and_the_largest_numbers(value):
    codes, scales = quantised(np.full((2, 3), value, np.float32))
    found = dequantised(codes, scales, 3)
    assert np.isfinite(found).all()
    assert np.abs(found - np.float32(value)).max() <= max(1e-4 * value, 1e-38)
    if value == 0.0:
        assert (codes == 128).all()
        assert not scales.any()


def test_only_the_recurrent_weights_are_other_than_the_checkpoints():
    weights = Weights.random(RNNSpec(3, 40, 2, bidirectional=True), 1)
    left = computed_network(weights)
    changed = {name for name in weights if weights[name].tobytes() != left[name].tobytes()}
    assert changed == {name for name in weights if name.startswith("weight_hh")}
    constants = quantised_matrices(weights)
    assert constants["W_l1_reverse"].tobytes() == weights["weight_ih_l1_reverse"].tobytes()
    assert constants["B_l0"].tobytes() == (weights["bias_ih_l0"] + weights["bias_hh_l0"]).tobytes()
