"""Cells on the processors of this machine: a pool of processes, which is what one machine does fastest."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from rnn_export.cells import Cell, lost, run_cell, run_here
from rnn_export.verification import Progress, Verified
from rnn_export.worker import die_with_parent

TERMINATED = 143
TIME_TO_END = 3.0  # seconds for a worker to remove its temporary folders


def run_in_processes(cells: Sequence[Cell], progress: Progress | None = None, *, jobs: int) -> list[Verified]:
    """What each cell showed, in the order of the cells.

    A worker that is killed takes the pool with it: what was not finished then runs again, each cell in a pool of its
    own, so that only a cell that kills its worker twice is lost, and says so.

    Args:
        cells: what to run.
        progress: told when a cell is finished.
        jobs: how many processes at most; none is started for a single cell.
    """
    if len(cells) <= 1:
        return run_here(cells, progress)
    found: dict[int, Verified] = {}
    try:
        _run(cells, list(range(len(cells))), jobs, found, progress)
    except BrokenProcessPool:
        for number in [number for number in range(len(cells)) if number not in found]:
            try:
                _run(cells, [number], 1, found, progress)
            except BrokenProcessPool:
                found[number] = lost(cells[number], "the process that judged it was killed, twice")
    return [found[number] for number in range(len(cells))]


def _run(
    cells: Sequence[Cell], numbers: list[int], jobs: int, found: dict[int, Verified], progress: Progress | None
) -> None:
    with _pool(min(jobs, len(numbers))) as pool:
        futures = {pool.submit(run_cell, cells[number]): number for number in numbers}
        for future in as_completed(futures):
            cell = cells[futures[future]]
            found[futures[future]] = future.result()
            if progress is not None:
                progress(cell.runtime, len(cell.subject.cases), len(cell.subject.cases))


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, and at once where it is interrupted."""
    before = set(multiprocessing.active_children())
    # Not fork: torch and ONNX Runtime may have threads here, whose locks a forked child would inherit.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _initialise, (os.getpid(),))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        workers = set(multiprocessing.active_children()) - before
        for process in workers:
            process.terminate()
        for process in workers:
            process.join(TIME_TO_END)  # when this process ends, they are killed
        raise
    pool.shutdown()


def _initialise(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; the parent answers it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that temporary folders are removed
    die_with_parent()
    if os.getppid() != parent:  # it died before that was asked for
        os._exit(1)
