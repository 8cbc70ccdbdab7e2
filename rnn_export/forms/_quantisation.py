"""Recurrent weights in 8 bits: one scale for every row's block of columns, and the network that is left of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.precision import keep_bits
from rnn_export.quantised_state import BLOCK, LEVELS, ZERO_POINT, in_blocks
from rnn_export.spec import suffix
from rnn_export.weights import Weights

# Mantissa bits of a scale. The product with an integer of 7 bits is then a float32, so that the network that the file
# computes has float32 weights, without a second rounding; it costs a hundred-thousandth of the rounding to 8 bits.
_SCALE_BITS = 16
_kept = keep_bits(_SCALE_BITS)
ROWS = 2**8  # quantised at once: of 32,768 columns 32 MiB


def quantised(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """codes (R, blocks, BLOCK) and scales (R * blocks,) of a matrix (R, C), as MatMulNBits takes them.

    A weight is (code - 128) * scale, rounded to nearest, with scale = max|w| / 127 over its block. The last block is
    filled up with zeros, and a block of zeros has the scale 0.
    """
    parts = [_quantised_rows(matrix[start : start + ROWS]) for start in range(0, len(matrix), ROWS)]
    return np.concatenate([codes for codes, _ in parts]), np.concatenate([scales for _, scales in parts])


def _quantised_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    blocks = in_blocks(matrix).astype(np.float64)
    scales = _kept(np.abs(blocks).max(-1, keepdims=True) / LEVELS).astype(np.float32)
    integers = np.rint(blocks / np.where(scales > 0, scales, 1.0)).clip(-LEVELS, LEVELS)
    return (integers + ZERO_POINT).astype(np.uint8), scales.reshape(-1)


def dequantised(codes: NDArray[np.uint8], scales: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """The matrix (R, columns) that codes and scales stand for, exactly."""
    integers = codes.astype(np.float32) - ZERO_POINT
    rows, blocks = codes.shape[:2]
    flat: NDArray[np.float32] = (integers * scales.reshape(rows, blocks, 1)).reshape(rows, blocks * BLOCK)
    return np.ascontiguousarray(flat[:, :columns])


def computed_network(weights: Weights) -> Weights:
    """The network that a file with quantised recurrent weights computes: all else is the checkpoint's, bit for bit."""
    arrays = dict(weights)
    for cell in weights.spec.cells():
        name = f"weight_hh{suffix(*cell)}"
        arrays[name] = dequantised(*quantised(weights[name]), weights.spec.hidden_size)
        arrays[name].flags.writeable = False  # a large one is kept as it is then
    return Weights(weights.spec, arrays)


def quantised_matrices(weights: Weights) -> dict[str, Any]:
    """W (H, I), R (H, blocks, BLOCK), R_scale (H * blocks,) and B (H,) = b_ih + b_hh of every layer and direction."""
    arrays: dict[str, Any] = {}
    for layer, direction in weights.spec.cells():
        end, cell = suffix(layer, direction), weights.cell(layer, direction)
        arrays[f"W{end}"] = cell.weight_ih
        arrays[f"R{end}"], arrays[f"R_scale{end}"] = quantised(cell.weight_hh)
        if weights.spec.bias:
            arrays[f"B{end}"] = cell.bias_ih + cell.bias_hh
    return arrays
