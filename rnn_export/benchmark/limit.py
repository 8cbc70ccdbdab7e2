"""The least time that one step can take on this machine, from what it was seen to read and to compute at best."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from rnn_export.benchmark import kernels
from rnn_export.child import MEMORY_LIMIT, Child, Failure
from rnn_export.runtimes import Runtime
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

TYPES = ("float32", "float64")  # in which numpy has a fast product
COPIES = 10  # of W_hh: the sets of 1, 2 and 4 times its size, and what is made on the way
_KERNELS = Runtime("limit", "numpy's BLAS, as fast as it goes", ("numpy",), kernels.prepare)


@dataclass(frozen=True)
class Limit:
    """What the machine was seen to do at best, with the threads of the race, and what follows for one step.

    Attributes:
        bytes_per_second: read, from a set of the size of one layer's W_hh.
        operations_per_second: multiplications and additions of a product of matrices, in the network's type.
        seconds: the least for one step of the whole network.
    """

    bytes_per_second: float
    operations_per_second: float
    seconds: float


class Gauge:
    """A process that measures what the machine can do, again and again; a context manager.

    Args:
        weights: the network's.
        threads: how many to compute with.
        timeout: seconds for one measurement.

    Attributes:
        problem: why there is no limit; empty where there is one, once it was measured.
    """

    def __init__(self, weights: Weights, threads: int, timeout: float) -> None:
        self.problem = ""
        self._spec, self._dtype = weights.spec, weights.dtype
        self._best = (0.0, 0.0)
        self._threads, self._timeout = threads, timeout
        self._child: Child | None = None

    def __enter__(self) -> Self:
        if self._dtype.name not in TYPES:
            self.problem = f"numpy has no fast product in {self._dtype.name}"
            return self
        memory = MEMORY_LIMIT + COPIES * self._spec.hidden_size**2 * self._dtype.itemsize
        try:
            self._child = Child(_KERNELS, Path(sys.executable), self._timeout, memory, self._threads)
            self._child.wait_until_ready()
            self._child.prepare(Path())
        except Failure as failure:
            self._fail(failure)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.close()

    def measure(self) -> None:
        """Measure once more; the best of all times counts."""
        if self._child is None:
            return
        asked = {"hidden_size": np.array(self._spec.hidden_size), "like": np.empty(0, self._dtype)}
        try:
            found = self._child.run(0, asked)
        except Failure as failure:
            self._fail(failure)
            return
        read, computed = float(found["bytes_per_second"]), float(found["operations_per_second"])
        self._best = max(self._best[0], read), max(self._best[1], computed)

    def limit(self, B: int) -> Limit | None:
        """The limit of a step of so many sequences; None where there is a problem."""
        if self.problem:
            return None
        return Limit(*self._best, least_seconds(self._spec, B, self._dtype.itemsize, *self._best))

    def _fail(self, failure: Failure) -> None:
        self.problem = f"{failure.status.value}: {failure.detail}"
        if self._child is not None:
            self._child.close()
        self._child = None


def least_seconds(spec: RNNSpec, B: int, itemsize: int, bytes_per_second: float, operations_per_second: float) -> float:
    """The least time of one step: in every layer and direction W_hh is read once while h is multiplied by it, and
    the input by W_ih.

    max(2*B*H*H / operations, itemsize*H*H / bytes) + 2*B*I*H / operations, the sum over layers and directions. W_ih is
    not read anew, since the products of many steps can be one. Neither the activation is in it, nor the time that a
    number takes from one step to the next, nor x and the output in memory: no program reaches it.
    """
    H = spec.hidden_size
    total = 0.0
    for layer, _ in spec.cells():
        recurrent = max(2 * B * H * H / operations_per_second, itemsize * H * H / bytes_per_second)
        total += recurrent + 2 * B * spec.layer_input_size(layer) * H / operations_per_second
    return total
