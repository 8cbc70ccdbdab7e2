"""Long sequences: gone through in stretches of steps, and kept in a file where memory is too dear."""

import math
import os
import tempfile
import weakref
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rnn_export.errors import OutputError

STRETCH = 2**21  # elements: 16 MiB in float64, of which a handful is in memory at once
KEPT = 2**22  # elements: a float64 sequence of more than 32 MiB goes to a file


class Sequence(Protocol):
    """Steps over the first axis, such as (T, B, W), that are read a stretch at a time; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, steps: slice, /) -> NDArray[Any]: ...


class StoredSequence:
    """A float64 sequence of zeros (T, B, W) in a temporary file that nobody else sees and that ends with it.

    Raises:
        OutputError: there is no room for temporary files.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        size = 8 * math.prod(shape)
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            os.posix_fallocate(self._file.fileno(), 0, size)  # a full disk is said here, and not in the middle
        except OSError as error:
            why = f"{tempfile.gettempdir()} has no room for {size:,} bytes: {error.strerror}"
            raise OutputError(why, "Set TMPDIR to a folder that has") from None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, steps: slice, /) -> NDArray[np.float64]:
        stretch = np.empty((self._seek(steps), *self.shape[1:]))
        self._file.readinto(stretch.reshape(-1).view(np.uint8).data)
        return stretch

    def __setitem__(self, steps: slice, stretch: NDArray[np.float64]) -> None:
        if stretch.shape != (self._seek(steps), *self.shape[1:]):
            raise ValueError(f"{stretch.shape} is not the shape of these steps of {self.shape}")
        self._file.write(np.ascontiguousarray(stretch, np.float64).data)

    def _seek(self, steps: slice) -> int:
        """Stand at the first of these consecutive steps; how many they are."""
        start, stop, stride = steps.indices(len(self))
        if stride != 1:
            raise ValueError("only consecutive steps are read and written")
        self._file.seek(8 * start * self.shape[1] * self.shape[2])
        return max(0, stop - start)


def empty_sequence(shape: tuple[int, int, int]) -> "NDArray[np.float64] | StoredSequence":
    """Room for a float64 sequence (T, B, W): an array, or a file where it is long."""
    return np.zeros(shape) if math.prod(shape) <= KEPT else StoredSequence(shape)


def stretches(T: int, width: int) -> list[slice]:
    """T steps of ``width`` elements each, in order, as slices of at most about ``STRETCH`` elements."""
    steps = max(1, STRETCH // max(1, width))
    return [slice(start, min(start + steps, T)) for start in range(0, T, steps)]
