"""What is remembered is remembered of the same arrays only, and of none that may become others."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rnn_export import memo as module
from rnn_export.memo import MOST, Memo


class Counted:
    """A making that counts how often it made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, arrays: tuple[NDArray[np.floating], ...], *others: object) -> tuple[float, ...]:
        self.count += 1
        return (*(float(array.sum()) for array in arrays), *map(float, map(str, others)))


def read_only(value: float, size: int = 3) -> NDArray[np.floating]:
    array = np.full(size, value)
    array.flags.writeable = False
    return array


def test_the_same_arrays_are_made_into_something_once():
    make, arrays = Counted(), (read_only(1), read_only(2))
    memo = Memo(make)
    assert memo(arrays) == memo(tuple(arrays)) == (3, 6)
    assert make.count == 1


def test_other_arrays_and_other_arguments_are_others():
    make, one = Counted(), read_only(1)
    memo = Memo(make)
    found = [memo((one,)), memo((one,), 5), memo((one,), 6), memo((read_only(1),)), memo((one, one))]
    assert found == [(3,), (3, 5), (3, 6), (3,), (3, 3)]
    assert make.count == len(found)


def test_an_array_that_may_change_is_made_anew():
    make, array = Counted(), np.ones(3)
    memo = Memo(make)
    assert memo((array,)) == (3,)
    array[0] = 5
    assert memo((array,)) == (7,)


def test_a_large_array_is_made_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SMALL", 16)
    make, large, small = Counted(), (read_only(1, size=3),), (read_only(1, size=2),)
    memo = Memo(make)
    for _ in range(2):
        memo(large)
        memo(small)
    assert make.count == 3


def test_an_array_that_is_gone_leaves_its_answer_to_nobody():
    """The next array may come to lie where the last one lay."""
    memo = Memo(Counted())
    assert [memo((read_only(value),)) for value in range(MOST)] == [(3.0 * value,) for value in range(MOST)]


def test_so_many_are_kept_and_no_more():
    make, first = Counted(), (read_only(0),)
    memo = Memo(make)
    for array in [first, *((read_only(value),) for value in range(MOST)), first]:
        memo(array)
    assert make.count == MOST + 2
