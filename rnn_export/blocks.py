"""Large arrays a block at a time: nothing is joined, copied or converted as a whole."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**24  # bytes


class Joined:
    """Arrays side by side along an axis, joined only where somebody asks numpy for the whole.

    Args:
        parts: of one type, and of one shape but for that axis.
        axis: 0, or 1 of matrices.
    """

    def __init__(self, parts: Sequence[NDArray[Any]], axis: int) -> None:
        self.parts, self.axis = tuple(parts), axis
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        self.shape, self.dtype = tuple(shape), parts[0].dtype
        self.ndim, self.nbytes = len(shape), sum(part.nbytes for part in parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.concatenate(self.parts, self.axis).astype(dtype or self.dtype, copy=False)


def blocks(array: Any) -> Iterator[NDArray[Any]]:
    """All elements in C order, as contiguous arrays (n,) of at most BLOCK bytes, or of one row where that has more.

    Args:
        array: an array of at least one axis, or a Joined one.
    """
    if isinstance(array, Joined) and array.axis == 0:
        for part in array.parts:
            yield from blocks(part)
        return
    if not array.nbytes:
        return
    columns = array.parts if isinstance(array, Joined) else (array.reshape(-1, array.shape[-1]),)
    width = sum(part.shape[1] * part.itemsize for part in columns)
    step = max(1, BLOCK // max(1, width))
    for start in range(0, len(columns[0]), step):
        rows = [part[start : start + step] for part in columns]
        yield np.ascontiguousarray(rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)).reshape(-1)
