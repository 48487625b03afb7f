"""Shares of a shift beyond controls: predictions of one more control, of the best of several, and net of secure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics.fractions import (
    difference_in_differences,
    fraction_removed,
    net_fraction,
    random_fraction,
)
from personaprobe.statistics.hypothesis_tests import rank_test
from personaprobe.statistics.intervals import Resamples

FAMILIES = [f"family {f:02d}" for f in range(12) for _ in range(2)]
PLAN = Resamples.of_families(FAMILIES, n=20000)
INSECURE, SECURE = np.full(24, 1.0), np.zeros(24)
SHARES = np.random.default_rng(0).normal(-0.1, 0.08, 39)
CONTROLS = [INSECURE - share for share in SHARES]


def beyond(candidates: int, removed: float = 0.8) -> tuple[float, float, float]:
    interval = difference_in_differences(
        INSECURE, SECURE, INSECURE - removed, CONTROLS, PLAN, candidates=candidates
    )
    return interval.value, interval.low, interval.high


def test_for_one_candidate_the_prediction_is_students_t() -> None:
    value, low, high = beyond(1)
    reach = stats.t.ppf(0.975, 38) * SHARES.std(ddof=1) * math.sqrt(1 + 1 / 39)
    assert value == pytest.approx(0.8 - SHARES.mean())
    assert (low, high) == pytest.approx((value - reach, value + reach), abs=0.02 * reach)


def test_the_best_of_more_candidates_is_harder_to_beat() -> None:
    lows = [beyond(n)[1] for n in (1, 2, 10, 100)]
    assert lows == sorted(lows, reverse=True)
    best = np.random.default_rng(1).normal(SHARES.mean(), SHARES.std(ddof=1), (20000, 100)).max(axis=1)
    assert beyond(100)[0] == pytest.approx(0.8 - np.median(best), abs=0.03)


def test_the_mean_of_controls_has_the_t_interval_over_controls() -> None:
    interval = random_fraction(INSECURE, SECURE, CONTROLS, PLAN)
    low, high = stats.t.interval(0.95, 38, SHARES.mean(), stats.sem(SHARES))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_the_order_of_controls_changes_nothing() -> None:
    turned = difference_in_differences(INSECURE, SECURE, INSECURE - 0.8, CONTROLS[::-1], PLAN)
    assert (turned.value, turned.low, turned.high) == pytest.approx(beyond(1))


def test_an_ablation_that_does_the_same_in_secure_removes_nothing_net() -> None:
    rng = np.random.default_rng(2)
    insecure = rng.normal(1.0, 0.3, 24)
    effect = rng.normal(0.4, 0.2, 24)
    none = net_fraction(insecure, SECURE, insecure - effect, SECURE - effect, PLAN)
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, 0), abs=1e-12)
    alone = net_fraction(insecure, SECURE, insecure - effect, SECURE, PLAN)
    assert alone == fraction_removed(insecure, SECURE, insecure - effect, PLAN)


def test_the_best_of_no_candidates_is_refused() -> None:
    with pytest.raises(DataError, match="best of 0 candidates"):
        beyond(0)


@pytest.mark.parametrize(
    ("removed", "p", "beaten"), [(0.9, 0.05, 39), (-0.9, 0.05, 0), (float(np.median(SHARES)), 1.0, 19)]
)
def test_a_rank_among_39_controls_reaches_a_two_sided_p_of_a_twentieth(
    removed: float, p: float, beaten: int
) -> None:
    test = rank_test(removed, SHARES.tolist())
    assert (test.beaten, test.n) == (beaten, 39)
    assert test.p == pytest.approx(p)


def test_a_rank_is_below_a_twentieth_about_as_often_as_it_says_and_ties_count_against_the_feature() -> None:
    rng = np.random.default_rng(3)
    ps = [rank_test(draw[0], draw[1:].tolist()).p for draw in rng.standard_cauchy((2000, 40))]
    assert 0.035 <= np.mean(np.array(ps) <= 0.05) <= 0.065
    assert rank_test(1.0, [1.0, 0.0, 0.0]).beaten == 2
