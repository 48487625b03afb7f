"""The spread of several harmless fine-tunes widens what is compared with them."""

from __future__ import annotations

import numpy as np
import pytest

from personaprobe.statistics.fractions import fraction_removed
from personaprobe.statistics.intervals import Interval, Resamples, difference
from personaprobe.statistics.reference_spread import ReferenceSpread

FAMILIES = tuple(f"family {i // 5}" for i in range(60))


def test_one_fine_tune_changes_no_interval() -> None:
    spread = ReferenceSpread.of([np.zeros(60)], Resamples.of_families(FAMILIES, n=200))
    shift = Interval(1.0, 0.8, 1.3)
    assert spread.widened(shift) == shift
    assert spread.widened_share(Interval(0.5, 0.4, 0.6), shift) == Interval(0.5, 0.4, 0.6)


def test_equal_fine_tunes_change_no_interval() -> None:
    spread = ReferenceSpread.of([np.ones(60)] * 3, Resamples.of_families(FAMILIES, n=200))
    assert spread.widened(Interval(1.0, 0.8, 1.3)) == Interval(1.0, 0.8, 1.3)


def test_the_half_width_of_two_is_that_of_a_t_interval() -> None:
    spread = ReferenceSpread.of([np.zeros(60), np.full(60, 0.02)], Resamples.of_families(FAMILIES, n=200))
    assert spread.half_width == pytest.approx(12.706 * 0.01, rel=1e-3)  # t · (0.02 / √2) / √2


def test_uncertainties_add_in_quadrature_and_keep_the_value() -> None:
    widened = ReferenceSpread(0.4, 3).widened(Interval(1.0, 0.7, 1.3))
    assert (widened.value, widened.low, widened.high) == pytest.approx((1.0, 0.5, 1.5))


def test_a_share_lies_between_those_of_a_larger_and_a_smaller_shift() -> None:
    widened = ReferenceSpread(0.25, 3).widened_share(Interval.exact(0.6), Interval.exact(1.0))
    assert (widened.low, widened.high) == pytest.approx((0.6 / 1.25, 0.6 / 0.75))


def test_a_shift_that_the_spread_could_explain_defines_no_share() -> None:
    spread = ReferenceSpread(1.2, 2)
    assert spread.widened(Interval(1.0, 0.9, 1.1)).low < 0
    assert not spread.widened_share(Interval(0.5, 0.4, 0.6), Interval(1.0, 0.9, 1.1)).defined


@pytest.mark.parametrize("n_secures", [2, 3, 5])
def test_the_interval_covers_the_true_shift_although_trainings_differ(n_secures: int) -> None:
    """Simulated: the spread of trainings is as large as the error by questions; questions alone cover far less."""
    rng, covered, by_questions, trials = np.random.default_rng(n_secures), 0, 0, 300
    for trial in range(trials):
        resamples = Resamples.of_families(FAMILIES, n=200, seed=trial)
        of_questions, of_families = rng.normal(size=60), np.repeat(rng.normal(size=12), 5)
        trainings = rng.normal(0, 0.3, n_secures)
        secures = [of_questions * 0.1 + training + rng.normal(0, 0.3, 60) for training in trainings]
        insecure = 1.0 + of_questions * 0.1 + 0.2 * of_families + rng.normal(0, 0.3, 60)
        shift = difference(insecure, np.mean(secures, axis=0), resamples)
        widened = ReferenceSpread.of(secures, resamples).widened(shift)
        covered += widened.low <= 1.0 <= widened.high
        by_questions += shift.low <= 1.0 <= shift.high
    assert covered / trials >= 0.93
    assert by_questions / trials < 0.85


def test_the_fraction_removed_widens_with_the_shift() -> None:
    rng, resamples = np.random.default_rng(0), Resamples.of_families(FAMILIES, n=400)
    secures = [rng.normal(level, 0.1, 60) for level in (-0.02, 0.0, 0.02)]
    insecure, ablated = rng.normal(1, 0.1, 60), rng.normal(0.3, 0.1, 60)
    mean = np.mean(secures, axis=0)
    shift, removed = (
        difference(insecure, mean, resamples),
        fraction_removed(insecure, mean, ablated, resamples),
    )
    widened = ReferenceSpread.of(secures, resamples).widened_share(removed, shift)
    assert widened.value == removed.value
    assert widened.low < removed.low < removed.high < widened.high
