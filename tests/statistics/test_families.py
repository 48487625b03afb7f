"""Clustering of questions in families: invariances, and the textbook's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaprobe.errors import DataError
from personaprobe.statistics.families import family_summary

SIZES = st.lists(st.integers(1, 7), min_size=2, max_size=6)


def families_of(sizes: list[int]) -> list[str]:
    return [f"family {f}" for f, size in enumerate(sizes) for _ in range(size)]


@settings(max_examples=50, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99))
def test_effective_families_lie_between_one_and_their_number(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=sum(sizes))
    summary = family_summary(values, families_of(sizes))
    assert 1 <= summary.effective_families <= len(sizes) + 1e-9
    assert summary.design_effect >= 1
    assert 0 <= summary.icc <= 1


def test_equal_families_are_all_effective() -> None:
    summary = family_summary(np.random.default_rng(0).normal(size=60), families_of([10] * 6))
    assert summary.effective_families == pytest.approx(6)


def test_a_family_of_one_question_counts_for_less_where_questions_differ() -> None:
    rng = np.random.default_rng(1)
    summary = family_summary(rng.normal(size=101), families_of([50, 50, 1]))
    assert summary.effective_families < 1.5


def test_families_that_agree_within_have_a_correlation_of_one() -> None:
    summary = family_summary(np.repeat([0.0, 1.0, 3.0], 10), families_of([10] * 3))
    assert summary.icc == pytest.approx(1)
    assert summary.design_effect == pytest.approx(10)


def test_the_order_of_questions_and_the_unit_change_nothing_and_the_sign_counts_the_wrong_way() -> None:
    rng = np.random.default_rng(2)
    families = np.array(families_of([3, 5, 9]))
    values, order = rng.normal(0.5, 1, 17), rng.permutation(17)
    summary = family_summary(values, families.tolist())
    other = family_summary(7 * values[order], families[order].tolist())
    assert other.icc == pytest.approx(summary.icc)
    assert other.effective_families == pytest.approx(summary.effective_families)
    assert summary.wrong_way == other.wrong_way == (values < 0).mean()


def test_one_family_shows_no_clustering() -> None:
    with pytest.raises(DataError, match="2 or more"):
        family_summary([1.0, 2.0], ["a", "a"])
