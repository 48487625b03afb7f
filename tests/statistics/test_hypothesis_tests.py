"""Tests hold their level under the null hypothesis, detect planted differences, and agree with published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics import hypothesis_tests
from personaprobe.statistics.hypothesis_tests import (
    MAX_ENUMERATED,
    MIN_FAMILIES,
    false_discovery,
    fisher,
    mcnemar,
    permutation_test,
)

LEVELS = np.array([0.01, 0.05, 0.1, 0.25, 0.5])


def held(p_values: list[float]) -> bool:
    """Whether p-values are uniform or larger, up to three standard errors of as many draws."""
    rejected = np.array([np.mean(np.array(p_values) <= level) for level in LEVELS])
    return bool((rejected <= LEVELS + 3 * np.sqrt(LEVELS * (1 - LEVELS) / len(p_values))).all())


def families(count: int, size: int = 10) -> list[str]:
    return [f"family {index:02d}" for index in range(count) for _ in range(size)]


# Exact tests


@pytest.mark.parametrize(("other", "p"), [((12, 80), 0.027), ((10, 80), 0.079)])
def test_fishers_test_gives_the_p_values_of_a_published_ablation(other: tuple[int, int], p: float) -> None:
    # 12 of 80 misaligned, 3 of 80 with persona latents ablated, 10 of 80 with random ones
    assert fisher((3, 80), other) == pytest.approx(p, abs=5e-4)


@pytest.mark.parametrize(("n", "rate"), [(12, 0.5), (20, 0.2), (20, 0.05), (30, 0.1)])
def test_fishers_test_holds_its_level_over_all_tables(n: int, rate: float) -> None:
    chances = stats.binom.pmf(np.arange(n + 1), n, rate)
    p_values = np.array([[fisher((a, n), (b, n)) for b in range(n + 1)] for a in range(n + 1)])
    for level in LEVELS:
        assert (np.outer(chances, chances) * (p_values <= level)).sum() <= level


@given(n=st.integers(1, 60), data=st.data())
def test_both_exact_tests_are_symmetric_in_the_arms(n: int, data: st.DataObject) -> None:
    a, b = (data.draw(st.integers(0, n)) for _ in range(2))
    assert fisher((a, n), (b, n)) == pytest.approx(fisher((b, n), (a, n)))
    assert fisher((a, n), (b, n)) == pytest.approx(fisher((n - a, n), (n - b, n)))
    assert mcnemar(a, b) == pytest.approx(mcnemar(b, a))


@given(a=st.integers(0, 40), b=st.integers(0, 40))
def test_mcnemars_test_tosses_a_coin_for_every_discordant_pair(a: int, b: int) -> None:
    tail = sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b)
    assert mcnemar(a, b) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemars_test_holds_its_level_where_questions_differ_and_arms_do_not() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(500):
        rates = np.repeat(rng.beta(0.3, 0.7, size=12), 20)  # strongly clustered, and the same for both arms
        a, b = rng.random((2, 240)) < rates
        p_values.append(mcnemar(int((a & ~b).sum()), int((b & ~a).sum())))
    assert held(p_values)
    assert np.mean(np.array(p_values) <= 0.05) > 0.01


# Permutation by family


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_all_flips_of_few_families_are_enumerated(values: list[int]) -> None:
    flipped = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in product((1, -1), repeat=len(values))
    ]
    expected = np.mean([each >= abs(sum(values)) for each in flipped])
    assert permutation_test(values, [str(i) for i in range(len(values))]) == pytest.approx(expected)


def test_a_difference_of_one_sign_in_every_family_is_as_rare_as_equal_coin_tosses() -> None:
    for count in (2, 5, MIN_FAMILIES, MAX_ENUMERATED):
        assert permutation_test([0.1] * 10 * count, families(count)) == 2 / 2**count
    assert permutation_test([0.1] * 10 * (MIN_FAMILIES - 1), families(MIN_FAMILIES - 1)) > 0.05
    assert permutation_test([0.1] * 10 * MIN_FAMILIES, families(MIN_FAMILIES)) < 0.05


@pytest.mark.parametrize("count", [3, 8, 14])
def test_scipys_own_permutation_test_gives_the_same_p_value(count: int) -> None:
    rng = np.random.default_rng(count)
    sums = rng.normal(0.3, 1.0, size=count)
    exact = stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=2**count, alternative="two-sided"
    ).pvalue
    p_value = permutation_test(sums, families(count, size=1))
    tolerance = 4 * math.sqrt(exact * (1 - exact) / hypothesis_tests.N_DRAWS)
    assert p_value == exact if count <= MAX_ENUMERATED else p_value == pytest.approx(exact, abs=tolerance)


def test_a_drawn_p_is_never_zero_since_it_counts_the_observed_signs() -> None:
    assert permutation_test([1.0] * 300, families(30)) == 1 / (hypothesis_tests.N_DRAWS + 1)


@pytest.mark.parametrize("count", [8, 11])
def test_drawn_flips_estimate_the_p_value_of_all_flips(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    values = np.random.default_rng(1).normal(0.15, 1.0, size=10 * count)
    exact = permutation_test(values, families(count))
    assert 0.02 < exact < 0.8
    monkeypatch.setattr(hypothesis_tests, "MAX_ENUMERATED", 4)
    drawn = permutation_test(values, families(count), seed=5)
    assert drawn == permutation_test(values, families(count), seed=5)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / hypothesis_tests.N_DRAWS))


@pytest.mark.parametrize("count", [6, 12, 20])
def test_p_values_are_uniform_or_larger_where_arms_do_not_differ(count: int) -> None:
    rng = np.random.default_rng(count)
    p_values = []
    for _ in range(500):
        rates = np.repeat(rng.beta(0.1 * 3, 0.9 * 3, size=(2, count)), 10, axis=1)  # correlation 0.25
        a, b = rng.binomial(2, rates) / 2
        p_values.append(permutation_test(a - b, families(count)))
    assert held(p_values)
    assert np.mean(np.array(p_values) <= 0.25) > 0.1  # and not so large that nothing is ever seen


def test_flipping_questions_instead_of_families_would_find_differences_that_are_not_there() -> None:
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(100):
        rates = np.repeat(rng.beta(0.3, 0.7, size=(2, 12)), 10, axis=1)
        a, b = rng.binomial(2, rates) / 2
        p_values.append(permutation_test(a - b, [str(i) for i in range(120)]))
    assert np.mean(np.array(p_values) <= 0.05) > 0.2


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(0.1, 10), seed=st.integers(0, 99))
def test_p_does_not_depend_on_unit_order_or_sign(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, order = rng.binomial(2, 0.4, size=60) / 2 - 0.3, rng.permutation(60)
    p_value, names = permutation_test(values, families(6)), families(6)
    assert permutation_test(-factor * values, names) == p_value
    assert permutation_test(values[order], [names[i] for i in order]) == p_value


# False discoveries


def test_q_values_are_benjamini_and_hochbergs() -> None:
    q_values = false_discovery([0.01, 0.04, 0.03, 0.5])
    assert q_values == pytest.approx((0.04, 0.16 / 3, 0.16 / 3, 0.5))
    assert false_discovery([0.03]) == (0.03,)


@given(ps=st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_q_is_no_smaller_than_p_and_keeps_the_order(ps: list[float]) -> None:
    qs = np.array(false_discovery(ps))
    assert (qs >= np.array(ps) - 1e-12).all()
    assert (np.diff(qs[np.argsort(ps)]) >= 0).all()


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: fisher((3, 2), (0, 2)), "3 of 2"),
        (lambda: fisher((0, 2), (0, 0)), "0 of 0"),
        (lambda: mcnemar(-1, 2), "-1 and 2 discordant"),
        (lambda: permutation_test([0.0], ["a", "b"]), r"shape \(1,\) came for 2"),
        (lambda: permutation_test([0.0, math.nan], ["a", "b"]), "one finite number"),
        (lambda: permutation_test([], []), "one finite number"),
        (lambda: false_discovery([]), "no p-values"),
        (lambda: false_discovery([0.1, 1.1]), "no p-values"),
        (lambda: false_discovery([math.nan]), "no p-values"),
    ],
)
def test_invalid_input_is_refused_by_its_value(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        attempt()
