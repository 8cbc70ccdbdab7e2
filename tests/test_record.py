"""A series is short whatever the length, and no maximum is lost on the way."""

import numpy as np
import pytest

from rnn_export.record import MOST_POINTS, Placement, series_of


@pytest.mark.parametrize("length", [1, 2, 399, 400, 401, 799, 800, 801, 12_345])
def test_no_maximum_is_lost_and_every_step_has_its_point(length):
    residual = np.zeros(length)
    residual[-1] = 7.0
    found = series_of("case", 4.0, residual, np.arange(length, dtype=float))
    assert (found.case, found.length, found.threshold) == ("case", length, 4.0)
    assert len(found.residual) == len(found.error) == -(-length // found.stride) <= MOST_POINTS
    assert found.residual[-1] == max(found.residual) == 7.0
    starts = range(0, length, found.stride)
    assert list(found.error) == [pytest.approx(min(start + found.stride, length) - 1) for start in starts]


def test_a_short_one_keeps_every_step():
    assert series_of("case", 4.0, np.array([0.1, 0.2]), None).residual == (0.1, 0.2)


def test_what_was_not_measured_is_not_there():
    assert series_of("case", 4.0, None, None) is None
    assert series_of("case", 4.0, np.zeros(0), None) is None
    found = series_of("case", 4.0, None, np.ones(3))
    assert (found.residual, found.error) == (None, (1.0, 1.0, 1.0))


def test_what_fell_back_is_what_is_not_where_it_was_asked_to_be():
    nodes = {"CUDA": ("Scan a",), "CPU": ("Gather b",), "empty": ()}
    assert Placement("CUDA", ("CUDA", "CPU"), nodes).fell_back == {"CPU": ("Gather b",)}
    assert Placement("CPU", ("CPU",), {}).fell_back == {}
