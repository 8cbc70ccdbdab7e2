"""The ratio of two measurements is that of their rounds, with an interval that a noisy measurement widens."""

import numpy as np
import pytest

from rnn_export.benchmark.spread import Spread, quartiles, speed_ratio


def test_quartiles_are_numpys():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    assert quartiles([7.0]) == Spread(7.0, 7.0, 7.0)


def test_what_takes_a_third_is_three_times_as_fast():
    ratio = speed_ratio([1.0, 1.0, 1.0], [3.0, 3.0, 3.0])
    assert ratio == Spread(3.0, 3.0, 3.0)


def test_a_machine_that_slows_down_for_a_round_changes_no_ratio():
    slowness = np.array([1.0, 1.0, 8.0, 1.0, 2.0])
    assert speed_ratio(1.0 * slowness, 3.0 * slowness) == Spread(3.0, 3.0, 3.0)


def test_it_is_the_median_of_the_ratios_and_not_the_ratio_of_the_medians():
    assert speed_ratio([1.0, 2.0, 3.0], [3.0, 4.0, 12.0]).median == 3.0


def test_noise_widens_the_interval_and_the_truth_stays_inside():
    rng = np.random.default_rng(0)
    widths = []
    for noise in (0.01, 0.3):
        own, reference = (np.exp(noise * rng.standard_normal(15)) for _ in range(2))
        ratio = speed_ratio(own, 2 * reference)
        assert ratio.low <= 2 <= ratio.high
        assert ratio.low <= ratio.median <= ratio.high
        widths.append(ratio.high - ratio.low)
    assert widths[1] > 5 * widths[0]


def test_the_same_rounds_give_the_same_interval():
    seconds = np.random.default_rng(1).uniform(1, 2, 9)
    assert speed_ratio(seconds, seconds[::-1]) == speed_ratio(seconds, seconds[::-1])


@pytest.mark.parametrize("shorter", [0, 1])
def test_the_rounds_that_both_ran_count(shorter):
    sides = [[1.0, 1.0, 5.0], [2.0, 2.0, 50.0]]
    sides[shorter] = sides[shorter][:2]
    assert speed_ratio(*sides).median == 2.0
