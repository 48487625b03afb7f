"""Ratios of sums over clustered observations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from personaprobe.errors import DataError
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.statistics.ratios import ratio_of_sums


def test_intervals_cover_the_true_ratio_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1500):
        tokens = rng.integers(20, 60, 24)
        sums = tokens * rng.normal(0.08, 0.03, 24)
        interval = ratio_of_sums(sums, tokens)
        covered.append(interval.low <= 0.08 <= interval.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_observations_of_a_family_count_together() -> None:
    rng = np.random.default_rng(1)
    families = [f"f{i // 4}" for i in range(48)]
    covered = {True: [], False: []}
    for _ in range(800):
        values = np.repeat(rng.normal(1.0, 0.3, 12), 4) + rng.normal(0, 0.05, 48)
        for clustered, found in covered.items():
            interval = ratio_of_sums(values, np.ones(48), families if clustered else None)
            found.append(interval.low <= 1.0 <= interval.high)
    assert np.mean(covered[True]) >= 0.93
    assert np.mean(covered[False]) < 0.8


def test_where_all_agree_there_is_no_width_and_one_family_has_no_ends() -> None:
    assert ratio_of_sums([2.0, 4.0], [1, 2]) == Interval(2.0, 2.0, 2.0)
    assert ratio_of_sums([2.0, 5.0], [1, 2], ["f", "f"]) == Interval(7 / 3, -math.inf, math.inf)
    assert ratio_of_sums([0.0, 0.0], [0, 0]) == UNDEFINED


@pytest.mark.parametrize("values", [([1.0, math.nan], [1, 1]), ([1.0], [1, 1]), ([1.0, 2.0], [1, -1])])
def test_numbers_that_fit_no_ratio_are_refused(values: tuple[list[float], list[float]]) -> None:
    with pytest.raises(DataError, match="one finite number of each"):
        ratio_of_sums(*values)
