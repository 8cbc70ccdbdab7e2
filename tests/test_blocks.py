"""Blocks are the whole array, in order, whatever it is made of."""

import numpy as np
import pytest

from rnn_export import blocks as module
from rnn_export.blocks import Joined, blocks

MATRIX = np.arange(48.0, dtype=np.float32).reshape(6, 8)
ARRAYS = {
    "vector": np.arange(5.0),
    "matrix": MATRIX,
    "columns of a wider one": MATRIX[:, 2:5],
    "transposed": MATRIX.T,
    "three axes": MATRIX.reshape(2, 3, 8),
    "empty": np.zeros((0, 3)),
    "no columns": np.zeros((3, 0)),
    "columns joined": Joined((MATRIX, MATRIX[:, :3]), axis=1),
    "rows joined": Joined((MATRIX[None], MATRIX[None] + 1), axis=0),
    "columns of wider ones joined": Joined((MATRIX[:, 1:3], MATRIX[:, 4:]), axis=1),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("size", [1, 40, 100, 2**24])
def test_blocks_are_every_element_once_in_c_order(name, size, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", size)
    array, found = ARRAYS[name], list(blocks(ARRAYS[name]))
    whole = np.asarray(array)
    assert b"".join(block.tobytes() for block in found) == whole.tobytes()
    row = whole.shape[-1] * whole.itemsize
    assert all(block.ndim == 1 and block.flags.c_contiguous for block in found)
    assert all(block.nbytes <= max(row, size) for block in found)


def test_joined_arrays_say_what_they_will_be():
    joined = ARRAYS["columns joined"]
    whole = np.concatenate([MATRIX, MATRIX[:, :3]], axis=1)
    assert (joined.shape, joined.dtype, joined.ndim, joined.nbytes) == (whole.shape, whole.dtype, 2, whole.nbytes)
    np.testing.assert_array_equal(np.asarray(joined), whole)
    assert np.asarray(joined, np.float64).dtype == np.float64
