"""Inputs for a file that is known by its declarations only: of several sizes, and with other numbers in one row."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.repository.data_types import DTYPES
from rnn_export.rules import Graph, Value

LIMIT = 2**24  # numbers in one input; more is not made
UNNAMED = "?"  # an axis that the file does not name
_FLOATING = "fV"  # kinds of numpy, whose bfloat16 is a V

Arrays = dict[str, NDArray[Any]]


class Feeds:
    """Makes the inputs of one graph.

    Args:
        graph: what the file declares; its types are in ``DTYPES``.
        pinned: sizes that a configuration fixes, by input: its whole shape, -1 where it does not.
        flags: integer inputs that are 0 or 1; others are 1 or 2, which every length and every table has.
    """

    def __init__(self, graph: Graph, pinned: Mapping[str, Sequence[int]], flags: frozenset[str]) -> None:
        self._inputs, self._flags = graph.inputs, flags
        self._pinned = {value.name: self._pins(value, pinned.get(value.name, ())) for value in graph.inputs}
        self._named = {  # an axis that is fixed in one input is fixed wherever the file has that name
            axis: pin
            for value in graph.inputs
            for axis, pin in zip(value.axes, self._pinned[value.name], strict=True)
            if pin > 0 and axis != UNNAMED
        }
        every = (*graph.inputs, *graph.outputs)
        self._first = {value.axes[0] for value in every if value.may_batch} - {UNNAMED}

    def make(self, first: int, other: int, scale: float = 1.0) -> Arrays | None:
        """Axis 0, and what is called like one, of size ``first``, other dynamic axes ``other``; None if too large."""
        feed: Arrays = {}
        for seed, value in enumerate(self._inputs):
            shape = self._shape(value, first, other)
            if math.prod(shape) > LIMIT:
                return None
            generator, dtype = np.random.default_rng(seed), DTYPES[value.data_type]
            if dtype.kind in _FLOATING:
                feed[value.name] = (scale * generator.standard_normal(shape)).astype(dtype)
            else:
                least = int(dtype.kind != "b" and value.name not in self._flags)
                feed[value.name] = (generator.integers(0, 2, shape) + least).astype(dtype)
        return feed

    def change(self, feed: Arrays, row: int, scale: float = 1.0) -> Arrays:
        """The same inputs with other numbers in one row; integers are changed only where there is nothing else."""
        changed = {name: array.copy() for name, array in feed.items()}
        floats = [name for name, array in feed.items() if array.dtype.kind in _FLOATING]
        for seed, name in enumerate(floats or changed):
            array = changed[name]
            if floats:
                others = np.random.default_rng(len(self._inputs) + seed).standard_normal(array[row].shape)
                array[row] = (scale * others).astype(array.dtype)
            elif array.dtype.kind == "b":
                array[row] = ~array[row]
            else:
                array[row] = (1 if name in self._flags else 3) - array[row]
        return changed

    def free_axes(self, batched: bool) -> dict[str, list[tuple[str, int]]]:
        """Every dynamic axis that is not the batch -> the (input, place) that have it."""
        free: dict[str, list[tuple[str, int]]] = {}
        for value in self._inputs:
            for place, (dim, axis) in enumerate(zip(value.dims, value.axes, strict=True)):
                pinned = self._pinned[value.name][place] > 0 or axis in self._named
                if dim == -1 and not pinned and not (batched and (place == 0 or axis in self._first)):
                    own = f"axis {place} of {value.name}" if axis == UNNAMED else f"axis {axis}"
                    free.setdefault(own, []).append((value.name, place))
        return free

    def change_end(self, feed: Arrays, places: Sequence[tuple[str, int]], scale: float) -> Arrays:
        """The same inputs with other numbers at the end of these axes of floating inputs."""
        changed = {name: array.copy() for name, array in feed.items()}
        for seed, (name, place) in enumerate(places):
            end = np.moveaxis(changed[name], place, 0)[-1:]  # a view, with an axis left to write through
            others = np.random.default_rng(len(self._inputs) + seed).standard_normal(end.shape)
            end[...] = (scale * others).astype(end.dtype)
        return changed

    def _pins(self, value: Value, said: Sequence[int]) -> Sequence[int]:
        return said if len(said) == len(value.dims) else [-1] * len(value.dims)

    def _shape(self, value: Value, first: int, other: int) -> tuple[int, ...]:
        shape = []
        for place, (dim, axis) in enumerate(zip(value.dims, value.axes, strict=True)):
            pin = max(self._pinned[value.name][place], self._named.get(axis, -1))
            free = first if axis in self._first or (axis == UNNAMED and place == 0) else other
            shape.append(dim if dim != -1 else pin if pin > 0 else free)
        return tuple(shape)


def shapes_of(feed: Arrays | None) -> str:
    """For messages."""
    return ", ".join(f"{name} {list(array.shape)}" for name, array in (feed or {}).items())
