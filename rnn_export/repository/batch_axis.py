"""Whether axis 0 of an ONNX file is the batch: it is run.

An inference server joins requests along axis 0 and cuts the answers along it. That is right where rows do not reach
each other, so one row of the inputs is changed after the other, and every other row of the outputs has to stay as it
was, bit for bit: the shapes are the same, so that the arithmetic is too, and nothing has to be tolerated. Time as
axis 0 cannot pass: a step reaches those after it. What depends on the row's number, such as a constant of the traced
batch, is found by rows in another order, twice and alone. Kernels round otherwise there, so that half of the digits
of the type have to agree; another row's numbers agree in none.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.child import Failure
from rnn_export.repository.trial_inputs import Arrays
from rnn_export.repository.trial_run import SCALES, TrialRun, Unproved, all_same, same
from rnn_export.rounding import ARITHMETICS
from rnn_export.rules import listed


def mixing(trial: TrialRun, rows: int, other: int) -> str:
    """How rows reach each other, in words; empty where they do not.

    Args:
        trial: the file.
        rows: how many, a size of axis 0 at which it runs.
        other: the size of every other dynamic axis.

    Raises:
        Failure: it refuses what it took before.
        Unproved: it runs with one row only, by chance, or whatever is put in.
    """
    if rows == 1:
        raise Unproved("it runs with one row only")
    reached = False
    for scale in SCALES:
        feed = trial.feeds.make(rows, other, scale)
        assert feed is not None  # it ran before
        whole = trial.run(feed)
        for name, array in whole.items():
            if array.ndim == 0 or len(array) != rows:
                return f"{name} comes back as {list(array.shape)} of {rows} rows"
        if not all_same(whole, trial.run(feed)):
            raise Unproved("two runs of the same input differ")
        for row in range(rows):
            answers = trial.run(trial.feeds.change(feed, row, scale))
            if mixed := _mixing_of(trial, row, whole, answers):
                return mixed
            reached |= any(not same(answers[name][row], array[row]) for name, array in whole.items())
        if mixed := _in_other_orders(trial, feed, whole, rows):
            return mixed
    if not reached:
        raise Unproved("no output depends on what is put in")
    return ""


def _mixing_of(trial: TrialRun, row: int, whole: Arrays, answers: Arrays) -> str:
    """Whether anything but that row is another than before."""
    for name, array in whole.items():
        if answers[name].shape != array.shape:
            return f"a change of row {row} changes the shape of {name}"
        for place in range(len(array)):
            if place != row and not same(answers[name][place], array[place]):
                inputs = listed(map(str, trial.question.graph.inputs))
                return f"a change of row {row} of {inputs} changes row {place} of {name}"
    return ""


def _in_other_orders(trial: TrialRun, feed: Arrays, whole: Arrays, rows: int) -> str:
    for order in ([*reversed(range(rows))], [0, 0, rows - 1], [rows // 2]):  # turned, one twice, one alone
        try:
            answers = trial.run({name: np.ascontiguousarray(array[order]) for name, array in feed.items()})
        except Failure as failure:
            return f"{len(order)} rows are refused where {rows} ran: {trial.words(failure)}"
        for name, array in whole.items():
            if not _close(answers[name], array[order]):
                return f"{name} of the rows {order} is not what these rows got among {rows}"
    return ""


def _close(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """To half of the digits of the type, measured by the largest; what is no float, and what is no number, exactly."""
    if found.shape != expected.shape:
        return False
    if expected.dtype.name not in ARITHMETICS:
        return same(found, expected)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return False
    half = math.sqrt(ARITHMETICS[expected.dtype.name].unit_roundoff)
    return bool((np.abs(a - b)[finite] <= half * np.abs(b[finite]).max(initial=0)).all())
