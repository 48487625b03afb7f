"""On planted studies the verdict is seldom wrong, and intervals cover the truth about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from simulations.false_verdicts import COVERAGE_FAMILIES, COVERAGE_ICCS, SELECTIONS, TRUE_SHARE, rates
from simulations.planted_studies import NULLS, Layout, normal, planted_study


@pytest.mark.parametrize("candidates", SELECTIONS.values(), ids=list(SELECTIONS))
@pytest.mark.parametrize("null", NULLS)
def test_a_direction_of_no_special_meaning_seldom_suppresses_even_as_the_best_of_many(
    null: str, candidates: int
) -> None:
    rng = np.random.default_rng(0)
    row = rates([planted_study(rng, NULLS[null], candidates, Layout()) for _ in range(60)])
    assert row.suppresses <= 0.05
    assert row.partly <= 0.05


def test_without_the_comparison_with_the_best_of_many_selection_would_deceive() -> None:
    rng = np.random.default_rng(1)
    studies = [planted_study(rng, NULLS["normal(0, 0.2)"], 100, Layout()) for _ in range(60)]
    removed = [study.evidence.fraction_removed.low > 0.1 for study in studies]
    assert np.mean(removed) > 0.8


def test_a_feature_that_removes_four_fifths_is_called_suppressing_though_it_was_chosen_from_a_hundred() -> (
    None
):
    rng = np.random.default_rng(2)
    null = normal(-0.10, 0.013)
    assert rates([planted_study(rng, null, 100, Layout(), TRUE_SHARE) for _ in range(60)]).suppresses >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("icc", COVERAGE_ICCS)
@pytest.mark.parametrize("n_families", COVERAGE_FAMILIES)
def test_intervals_cover_the_truth_as_often_as_they_say(n_families: int, icc: float) -> None:
    rng = np.random.default_rng(3)
    layout = Layout(n_families, n_control_questions=2 * n_families, icc=icc)
    row = rates(
        [planted_study(rng, NULLS["normal(−0.10, 0.08)"], 1, layout, TRUE_SHARE) for _ in range(1000)]
    )
    assert 0.93 <= row.fraction <= 0.97
    assert 0.93 <= row.shift <= 0.97
