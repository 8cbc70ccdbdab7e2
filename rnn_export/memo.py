"""What is made of small read-only arrays, made once: a verification needs the same of its weights in every case."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

SMALL = 2**18  # bytes of an array: of larger ones the making is little beside the use, and copies are dear
MOST = 16  # results that are kept, of a few layers in both directions; beyond it all are forgotten

Made = TypeVar("Made")


class Memo(Generic[Made]):
    """``make(arrays, *others)``, remembered by which arrays they are, and not by what they hold.

    An array that somebody may write to is another one tomorrow: of such, and of large ones, nothing is remembered.

    Args:
        make: always makes the same of the same.
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._kept: dict[Hashable, tuple[tuple[NDArray[Any], ...], Made]] = {}

    def __call__(self, arrays: tuple[NDArray[Any], ...], *others: Hashable) -> Made:
        """What ``make`` gives of arrays of any shapes."""
        if any(array.flags.writeable or array.nbytes > SMALL for array in arrays):
            return self._make(arrays, *others)
        key = (*map(id, arrays), *others)
        if (found := self._kept.get(key)) is None:
            if len(self._kept) >= MOST:
                self._kept.clear()
            # The arrays are held with it, so that no other comes to lie where one of them lay and has its id.
            found = self._kept[key] = (arrays, self._make(arrays, *others))
        return found[1]
