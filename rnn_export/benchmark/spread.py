"""A number that was measured several times: its median, and how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000  # of a bootstrap: the ends of its interval then move by less than the last digit that is shown
CONFIDENCE = 0.95  # of the interval of a ratio: what most readers expect


@dataclass(frozen=True)
class Spread:
    """A median and what is below and above it: quartiles of a time, an interval of 95 % of a ratio."""

    median: float
    low: float
    high: float


def quartiles(values: Sequence[float]) -> Spread:
    """The median of some values, with their quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high))


def speed_ratio(seconds: Sequence[float], reference: Sequence[float]) -> Spread:
    """How many times as fast as the reference: of the ratios round by round their median, and its interval of 95 %.

    What slows a machine down for a while slows both sides of a round, so that a ratio within it is truer than that of
    two medians. The interval is a percentile bootstrap over rounds (Efron and Tibshirani 1993, section 13.3), with a
    fixed seed.

    Args:
        seconds: of each round.
        reference: of the same rounds; where one side ran fewer, the rounds that both ran.
    """
    rounds = min(len(seconds), len(reference))
    ratios = np.asarray(reference[:rounds]) / np.asarray(seconds[:rounds])
    drawn = np.random.default_rng(0).integers(rounds, size=(RESAMPLES, rounds))
    edges = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low, high = np.quantile(np.median(ratios[drawn], axis=1), edges)
    return Spread(float(np.median(ratios)), float(low), float(high))
