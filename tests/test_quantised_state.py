"""A state of 8 bits is what ONNX Runtime multiplies, to float32 rounding, and what is not certain of it is said."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from rnn_export.forms._quantisation import dequantised, quantised
from rnn_export.quantised_state import BLOCK, LEVELS, in_blocks, quantised_state, zero_point_excess, zero_points

U = 2.0**-24


def multiplied(matrix: np.ndarray, h: np.ndarray) -> np.ndarray:
    """h (B, K) @ matrix (N, K).T by MatMulNBits, in ONNX Runtime."""
    codes, scales = quantised(matrix)
    sizes = {"N": len(matrix), "K": matrix.shape[1], "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", ["h", "codes", "scales"], ["y"], domain="com.microsoft", **sizes)
    taken, given = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", None]) for name in ("h", "y"))
    constants = [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(scales, "scales")]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [taken], [given], constants), opset_imports=opsets)
    model.ir_version = 8
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"h": h})[0].astype(np.float64)


def bound(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The size of what a kernel adds, as the judge has it."""
    excess = zero_point_excess(values, zero_points(matrix))
    return np.abs(values) @ np.abs(matrix).T + excess.size + excess.rms


@pytest.mark.parametrize("B", [1, 3, 32, 40])
@pytest.mark.parametrize("K", [4, 32, 64, 100, 512])
def test_it_is_what_onnx_runtime_multiplies(K, B):
    rng = np.random.default_rng([K, B])
    matrix = rng.normal(size=(K, K)).astype(np.float32)
    h = np.tanh(rng.normal(size=(B, K))).astype(np.float32)
    wide, found = dequantised(*quantised(matrix), K).astype(np.float64), multiplied(matrix, h)
    state = quantised_state(h.astype(np.float64))
    off = np.abs(found - state.values @ wide.T)
    assert (off <= 2 * U * bound(wide, state.values) + state.unsure @ np.abs(wide).T).all()
    assert off.max() < 1e-6 * np.abs(found).max() + (state.unsure @ np.abs(wide).T).max()
    # and the state itself, which is not multiplied, is a thousand times as far away
    assert np.abs(found - h @ wide.T).max() > 1e-3 * np.abs(found).max()


@pytest.mark.parametrize("K", [32, 512])
def test_what_its_zero_point_adds_too_much_is_most_of_the_error_and_is_in_the_bound(K):
    """One large weight of a block and many units at 1: the sums on the way are up to 32 times what is left."""
    rng = np.random.default_rng(K)
    matrix = np.where(np.arange(K) % BLOCK == 5, rng.normal(size=(K, K)), 0).astype(np.float32)
    h = np.ones((8, K), np.float32)
    h[:, ::BLOCK] = rng.uniform(-1, 1, (8, K // BLOCK))
    wide, state = dequantised(*quantised(matrix), K).astype(np.float64), quantised_state(h.astype(np.float64))
    off = np.abs(multiplied(matrix, h) - state.values @ wide.T)
    assert (off > 4 * U * np.abs(state.values) @ np.abs(wide).T).any()
    assert (off <= 2 * U * bound(wide, state.values)).all()


def test_each_block_of_a_row_has_the_scale_of_its_largest():
    h = np.zeros((2, 40))
    h[0, :3], h[0, 32:35], h[1, 0] = (1.0, -0.5, 0.1), (-2.0, 0.3, 0.0), 127.0
    values = quantised_state(h).values
    scale = float(np.float32(1) / np.float32(LEVELS))
    assert values[0, :3].tolist() == [127 * scale, -64 * scale, 13 * scale]  # 63.5 goes to the even one
    assert values[0, 32:34].tolist() == [-127 * 2 * scale, 19 * 2 * scale]
    assert values[1].tolist() == [127.0] + [0.0] * 39


def test_near_the_middle_of_two_integers_it_is_unsure_by_one_step():
    middle = 40.5 / LEVELS
    h = np.array([[1.0, middle, middle * (1 + 2 * U), middle * (1 + 20 * U), -middle, 0.0]])
    scale = float(np.float32(1) / np.float32(LEVELS))
    assert quantised_state(h).unsure.tolist() == [[0.0, scale, scale, 0.0, scale, 0.0]]


def test_where_127_over_the_largest_is_infinite_any_integer_may_stand():
    found = quantised_state(np.array([[1e-38, -3e-38]]))
    assert (found.unsure == 6e-38).all()


def test_a_row_that_is_not_finite_is_left_as_it_is():
    h = np.array([[1.0, np.nan, 0.3], [np.inf, 1.0, 0.3], [1.0, 0.5, 0.3]])
    found = quantised_state(h)
    assert np.array_equal(found.values[:2], h[:2], equal_nan=True)
    assert not found.unsure[:2].any()
    assert found.values[2, 2] != 0.3


def test_the_excess_that_float32_cannot_hold_on_the_way_is_infinite():
    alternating = np.where(np.arange(32) % 2, -1e37, 1e37)[None]
    for states in (np.full((1, 32), 1e37), alternating):  # the second is 0 in the end
        zeros = zero_points(np.stack([np.eye(32)[0], 1e-3 * np.eye(32)[1]]))
        assert np.isinf(zero_point_excess(states, zeros).size).all()  # the sum of a block's states alone
        assert np.isinf(zero_point_excess(states / 4, 8 * zeros).size).tolist() == [[True, False]]
        assert np.isfinite(zero_point_excess(states / 100, zeros).size).all()


@pytest.mark.parametrize(("K", "blocks"), [(1, 1), (32, 1), (33, 2)])
def test_the_last_block_is_filled_up_with_zeros(K, blocks):
    found = in_blocks(np.ones((3, K)))
    assert found.shape == (3, blocks, BLOCK)
    assert found.sum() == 3 * K
