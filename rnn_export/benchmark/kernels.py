"""What the limit is measured with, as a runtime's adapter: kernels of numpy's BLAS, in a child that has its threads.

Reading is a matrix times a vector and the product of two halves, over and over within one call: at small sizes a call
of its own would take longer than the work. Computing is the product of square matrices.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run

LARGER = (1, 2, 4)  # times the size that is asked for: a larger set is never read faster than a smaller one
MOST_BYTES = 2**28  # of a larger set: beyond every cache there is nothing new to see
BYTES_PER_CALL = 2**22  # tens of microseconds, beside which the microsecond of a call vanishes
MOST_REPEATS = 256  # within one call, whose answers then stay small beside what is read
SIDES = (192, 384, 768)  # of products: one of them is near the best of every BLAS
TRIES = 5  # of a kernel each time; the best counts


def prepare(folder: Path) -> Run:  # noqa: ARG001  # there is no network in it
    sets: dict[tuple[int, str], list[tuple[str, float, Callable[[], object]]]] = {}

    def run(inputs: Any) -> dict[str, Any]:
        """hidden_size () and like (0,), whose type is meant -> the most bytes and operations per second."""
        import numpy as np

        like, H = inputs["like"].dtype, int(inputs["hidden_size"])
        kernels = sets.setdefault((H, like.str), [*_reading(H, like), *_computing(like)])
        best = {"bytes_per_second": 0.0, "operations_per_second": 0.0}
        for what, amount, kernel in kernels:
            best[what] = max(best[what], amount / min(_seconds(kernel) for _ in range(TRIES)))
        return {what: np.array(rate) for what, rate in best.items()}

    return run


def _seconds(kernel: Callable[[], object]) -> float:
    started = time.perf_counter()
    kernel()
    return time.perf_counter() - started


def _reading(H: int, dtype: Any) -> Iterator[tuple[str, float, Callable[[], object]]]:
    """Kernels that read sets of H*H numbers and some times as many."""
    import numpy as np

    rng = np.random.default_rng(0)
    for times in LARGER:
        size = times * H * H * dtype.itemsize
        if times > 1 and size > MOST_BYTES:
            return
        matrix, vector = rng.standard_normal((times * H, H)).astype(dtype), np.ones((H, 1), dtype)
        repeats = min(MOST_REPEATS, max(1, BYTES_PER_CALL // size))
        vectors, products = np.broadcast_to(vector, (repeats, H, 1)), np.empty((repeats, times * H, 1), dtype)
        half = matrix.size // 2
        halves = [np.broadcast_to(part, (repeats, half)) for part in np.split(matrix.reshape(-1)[: 2 * half], 2)]
        dots = np.empty(repeats, dtype)

        def multiply(matrix: Any = matrix, vectors: Any = vectors, products: Any = products) -> object:
            return np.matmul(matrix, vectors, out=products)

        def dot(halves: Any = halves, dots: Any = dots) -> object:
            return np.vecdot(halves[0], halves[1], out=dots)

        yield "bytes_per_second", float(repeats * size), multiply
        if half:
            yield "bytes_per_second", float(repeats * 2 * half * dtype.itemsize), dot


def _computing(dtype: Any) -> Iterator[tuple[str, float, Callable[[], object]]]:
    """Products of square matrices, each of 2*N*N*N operations."""
    import numpy as np

    rng = np.random.default_rng(0)
    for side in SIDES:
        left, right, product = (rng.standard_normal((side, side)).astype(dtype) for _ in range(3))

        def multiply(left: Any = left, right: Any = right, product: Any = product) -> object:
            return np.matmul(left, right, out=product)

        yield "operations_per_second", 2.0 * side**3, multiply
