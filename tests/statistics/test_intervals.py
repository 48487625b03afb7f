"""Intervals cover the truth, pairing and families count, and power promises what the intervals keep."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics import intervals
from personaprobe.statistics.fractions import difference_in_differences, fraction_removed, random_fraction
from personaprobe.statistics.intervals import (
    UNDEFINED,
    Interval,
    Resamples,
    difference,
    mean_from_part,
    mean_interval,
    wilson,
)
from personaprobe.statistics.power import minimum_detectable, questions_needed

N_FAMILIES, SIZE = 12, 10
FAMILIES = [f"family {f:02d}" for f in range(N_FAMILIES) for _ in range(SIZE)]
PLAN = Resamples.of_families(FAMILIES, n=1000)
SIZES = st.lists(st.integers(1, 7), min_size=2, max_size=6)


def clustered(rng: np.random.Generator, icc: float, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """Values whose families share a part `icc` of the variance."""
    shared = np.repeat(rng.normal(size=N_FAMILIES), SIZE)
    individual = rng.normal(size=N_FAMILIES * SIZE)
    return mean + spread * (math.sqrt(icc) * shared + math.sqrt(1 - icc) * individual)


def families_of(sizes: list[int]) -> list[str]:
    return [f"family {f}" for f, size in enumerate(sizes) for _ in range(size)]


def arms(rng: np.random.Generator, removed: float, shift: float = 0.45) -> tuple[np.ndarray, ...]:
    """Insecure, secure, and insecure with a share `removed` of the planted shift ablated."""
    secure = clustered(rng, 0.3, -0.45, 0.3)
    insecure = secure + clustered(rng, 0.3, shift, 0.2)
    return insecure, secure, insecure - clustered(rng, 0.1, removed * shift, 0.1)


# Intervals


def test_a_control_that_does_nothing_stands_where_its_checkpoint_stands_whatever_part_it_answered() -> None:
    families = [family for _ in range(SIZE) for family in FAMILIES[::SIZE]]  # interleaved evenly
    whole, part = (Resamples.of_families(families[:n], n=1000) for n in (120, 36))
    untreated = np.random.default_rng(0).normal(size=120)
    assert mean_from_part(untreated[:36], untreated, whole, part) == mean_interval(untreated, whole)
    moved = mean_from_part(untreated[:36] + 0.25, untreated, whole, part)
    assert moved.value == pytest.approx(untreated.mean() + 0.25)


def test_a_mean_from_a_part_covers_the_mean_of_all() -> None:
    families = [family for _ in range(SIZE) for family in FAMILIES[::SIZE]]
    whole, part = (Resamples.of_families(families[:n], n=400) for n in (120, 48))
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shared, effect = (
            np.tile(rng.normal(size=N_FAMILIES), SIZE),
            np.tile(rng.normal(size=N_FAMILIES), SIZE),
        )
        untreated = shared + rng.normal(size=120)
        treated = untreated + 0.5 + 0.2 * effect + 0.3 * rng.normal(size=120)
        covered.append(not mean_from_part(treated[:48], untreated, whole, part).excludes(0.5))
    assert 0.9 <= np.mean(covered) <= 0.995


def test_an_interval_excludes_what_lies_outside_it_and_keeps_its_ends() -> None:
    interval = Interval(0.71, 0.55, 0.83)
    assert [interval.excludes(x) for x in (0.54, 0.55, 0.7, 0.83, 0.84)] == [True, False, False, False, True]
    assert str(interval) == "0.71 [0.55, 0.83]"
    assert interval.to_dict() == {"value": 0.71, "low": 0.55, "high": 0.83}


def test_what_is_not_defined_excludes_nothing_and_is_null_in_json() -> None:
    assert not UNDEFINED.defined
    assert not UNDEFINED.excludes(0.0)
    assert str(UNDEFINED) == "not defined"
    assert json.dumps(UNDEFINED.to_dict(), allow_nan=False) == '{"value": null, "low": null, "high": null}'


@pytest.mark.parametrize("icc", [0.1, 0.3, 0.6])
def test_intervals_cover_the_truth_at_their_nominal_rate(icc: float) -> None:
    rng = np.random.default_rng(1)
    covered = [not mean_interval(clustered(rng, icc, 0.3), PLAN).excludes(0.3) for _ in range(1000)]
    assert 0.90 <= np.mean(covered) <= 0.99


def test_to_ignore_families_would_cover_the_truth_far_too_rarely() -> None:
    rng = np.random.default_rng(2)
    naive = Resamples.of_families([str(i) for i in range(len(FAMILIES))], n=1000)
    covered = [not mean_interval(clustered(rng, 0.5), naive).excludes(0.0) for _ in range(300)]
    assert np.mean(covered) < 0.75


def test_intervals_of_a_fraction_cover_the_planted_fraction() -> None:
    rng = np.random.default_rng(3)
    intervals = [fraction_removed(*arms(rng, 0.7), PLAN) for _ in range(300)]
    assert 0.92 <= np.mean([not interval.excludes(0.7) for interval in intervals]) <= 0.995
    assert np.mean([interval.value for interval in intervals]) == pytest.approx(0.7, abs=0.01)


def test_a_narrower_level_gives_a_narrower_interval() -> None:
    draws = np.arange(1000.0)
    ninety, half = PLAN.interval(draws, 500.0, level=0.9), PLAN.interval(draws, 500.0, level=0.5)
    assert (ninety.low, ninety.high) == pytest.approx((49.95, 949.05))
    assert (half.low, half.high) == pytest.approx((249.75, 749.25))


# The plan of resamples


@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99))
def test_families_weigh_equally_in_the_estimate_and_questions_of_a_family_in_every_resample(
    sizes: list[int], seed: int
) -> None:
    plan = Resamples.of_families(families_of(sizes), n=100, seed=seed)
    edges = np.cumsum([0, *sizes])
    assert plan.weights.sum(axis=1) == pytest.approx(1)
    for a, b in pairwise(edges):
        assert plan.equal[a:b].sum() == pytest.approx(1 / len(sizes))
        assert np.ptp(plan.weights[:, a:b], axis=1) == pytest.approx(0)


@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99))
def test_the_estimate_is_the_mean_of_the_families_means(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=sum(sizes))
    plan = Resamples.of_families(families_of(sizes), n=100)
    means = [values[a:b].mean() for a, b in pairwise(np.cumsum([0, *sizes]))]
    assert plan.estimate(values) == pytest.approx(np.mean(means))
    assert mean_interval(values, plan).value == pytest.approx(np.mean(means))


def test_the_interval_of_a_mean_is_the_t_interval_of_its_families_means() -> None:
    values = clustered(np.random.default_rng(20), 0.3)
    means = values.reshape(N_FAMILIES, SIZE).mean(axis=1)
    low, high = stats.t.interval(0.95, N_FAMILIES - 1, means.mean(), stats.sem(means))
    interval = mean_interval(values, Resamples.of_families(FAMILIES, n=40000))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert interval.high - interval.low == pytest.approx(high - low, rel=0.05)


@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, level=st.floats(-5, 5))
def test_an_arm_that_answers_all_alike_has_no_uncertainty(sizes: list[int], level: float) -> None:
    plan = Resamples.of_families(families_of(sizes), n=100)
    interval = mean_interval([level] * sum(sizes), plan)
    assert (interval.value, interval.low, interval.high) == pytest.approx((level,) * 3)


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(0.1, 10), offset=st.floats(-5, 5), seed=st.integers(0, 99))
def test_intervals_move_with_the_unit_and_the_origin(factor: float, offset: float, seed: int) -> None:
    values = clustered(np.random.default_rng(seed), 0.3)
    plain, moved = mean_interval(values, PLAN), mean_interval(factor * values + offset, PLAN)
    assert moved.low == pytest.approx(factor * plain.low + offset, abs=1e-9)
    assert moved.high == pytest.approx(factor * plain.high + offset, abs=1e-9)


def test_the_order_of_families_changes_nothing_at_all() -> None:
    rng = np.random.default_rng(4)
    values = clustered(rng, 0.3)
    order = np.concatenate([np.arange(f * SIZE, (f + 1) * SIZE) for f in rng.permutation(N_FAMILIES)])
    moved = Resamples.of_families([FAMILIES[i] for i in order], n=1000)
    np.testing.assert_array_equal(moved.weights, PLAN.weights[:, order])
    interval, reordered = mean_interval(values, PLAN), mean_interval(values[order], moved)
    assert (interval.low, interval.high) == pytest.approx((reordered.low, reordered.high), abs=1e-12)


def test_the_order_of_questions_changes_intervals_only_by_chance() -> None:
    rng = np.random.default_rng(5)
    values, order = clustered(rng, 0.3), rng.permutation(len(FAMILIES))
    interval = mean_interval(values, Resamples.of_families(FAMILIES, n=20000))
    expected = mean_interval(values[order], Resamples.of_families([FAMILIES[i] for i in order], n=20000))
    assert (expected.low, expected.high) == pytest.approx((interval.low, interval.high), abs=0.02)


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    values = clustered(np.random.default_rng(6), 0.3)
    low = [mean_interval(values, Resamples.of_families(FAMILIES, n=500, seed=s)).low for s in (7, 7, 8)]
    assert low[0] == low[1] != low[2]


# Differences and fractions


def test_pairing_takes_away_what_the_questions_share() -> None:
    rng = np.random.default_rng(8)
    hard = clustered(rng, 0.8, spread=5.0)
    a, b = hard + 0.2 + clustered(rng, 0, spread=0.1), hard
    assert difference(a, b, PLAN).excludes(0.1)
    assert difference(a, b, PLAN).value == pytest.approx(0.2, abs=0.05)
    assert not mean_interval(a, PLAN).excludes(0.0)


def test_the_difference_turned_round_is_its_mirror_image() -> None:
    insecure, secure, _ = arms(np.random.default_rng(9), 0.5)
    there, back = difference(insecure, secure, PLAN), difference(secure, insecure, PLAN)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_secure_itself_is_the_whole_fraction_and_insecure_itself_none_of_it() -> None:
    insecure, secure, _ = arms(np.random.default_rng(10), 0.5)
    whole = fraction_removed(insecure, secure, secure, PLAN)
    none = fraction_removed(insecure, secure, insecure, PLAN)
    assert (whole.value, whole.low, whole.high) == pytest.approx((1, 1, 1))
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, 0))


@settings(max_examples=25, deadline=None)
@given(share=st.floats(-1, 2), seed=st.integers(0, 99))
def test_half_way_to_secure_on_every_question_removes_exactly_half(share: float, seed: int) -> None:
    insecure, secure, _ = arms(np.random.default_rng(seed), 0.5)
    fraction = fraction_removed(insecure, secure, insecure - share * (insecure - secure), PLAN)
    assert (fraction.value, fraction.low, fraction.high) == pytest.approx((share,) * 3, abs=1e-9)


def test_the_fraction_is_a_ratio_of_means_not_a_mean_of_ratios() -> None:
    insecure, secure, ablated = arms(np.random.default_rng(11), 0.5)
    expected = (insecure.mean() - ablated.mean()) / (insecure.mean() - secure.mean())
    assert fraction_removed(insecure, secure, ablated, PLAN).value == pytest.approx(expected)


def test_a_fraction_of_no_shift_is_not_defined() -> None:
    rng = np.random.default_rng(12)
    insecure, _, ablated = arms(rng, 0.5)
    same = insecure + clustered(rng, 0.3, 0.0, 0.2)
    assert not difference(insecure, same, PLAN).excludes(0.0)
    assert not fraction_removed(insecure, same, ablated, PLAN).defined
    assert not random_fraction(insecure, same, [ablated, same], PLAN).defined
    assert not difference_in_differences(insecure, same, ablated, [ablated, same], PLAN).defined


def test_resamples_without_a_shift_widen_the_fraction_at_both_ends() -> None:
    insecure = clustered(np.random.default_rng(13), 0.3, spread=10.0)
    resamples = PLAN.means(insecure)
    secure = np.full(len(insecure), np.quantile(resamples, 0.02))  # 2 % of the resamples have no shift
    assert (PLAN.means(insecure - secure) <= 0).mean() == pytest.approx(0.02, abs=0.002)
    ablated = insecure - 0.5 * insecure.std()
    fraction = fraction_removed(insecure, secure, ablated, PLAN)
    ratios = PLAN.means(insecure - ablated) / PLAN.means(insecure - secure)
    sane = ratios[ratios > 0]
    assert math.isfinite(fraction.low)
    assert math.isfinite(fraction.high)
    assert fraction.low < np.quantile(sane, 0.025)
    assert fraction.high > np.quantile(sane, 0.99)


def test_a_shift_the_other_way_has_fractions_too() -> None:
    insecure, secure, ablated = arms(np.random.default_rng(14), 0.7, shift=-0.45)
    fraction = fraction_removed(insecure, secure, ablated, PLAN)
    mirrored = fraction_removed(-insecure, -secure, -ablated, PLAN)
    assert fraction.value == pytest.approx(0.7, abs=0.1)
    assert (fraction.low, fraction.high) == pytest.approx((mirrored.low, mirrored.high))


# Random controls


def randoms(rng: np.random.Generator, insecure: np.ndarray, count: int, spread: float) -> list[np.ndarray]:
    """Controls that remove 5 % of a shift of 0.45 on average, and differ by `spread` of it."""
    return [
        insecure - clustered(rng, 0.1, 0.45 * share, 0.05) for share in 0.05 + spread * rng.normal(size=count)
    ]


def test_the_random_fraction_is_the_mean_of_the_controls_fractions() -> None:
    rng = np.random.default_rng(15)
    insecure, secure, _ = arms(rng, 0)
    controls = randoms(rng, insecure, 5, 0.1)
    fractions = [fraction_removed(insecure, secure, control, PLAN).value for control in controls]
    assert random_fraction(insecure, secure, controls, PLAN).value == pytest.approx(np.mean(fractions))


def test_few_controls_give_a_wide_interval() -> None:
    rng = np.random.default_rng(16)
    insecure, secure, ablated = arms(rng, 0.7)
    pair = [insecure - 0.45 * share for share in (-0.1, 0.2)]
    for estimate in (
        lambda controls: random_fraction(insecure, secure, controls, PLAN),
        lambda controls: difference_in_differences(insecure, secure, ablated, controls, PLAN),
    ):
        small, large = estimate(pair), estimate(pair * 10)
        assert small.value == pytest.approx(large.value)
        assert small.high - small.low > 1.5 * (large.high - large.low)


def test_the_difference_in_differences_is_the_feature_minus_random() -> None:
    rng = np.random.default_rng(17)
    insecure, secure, ablated = arms(rng, 0.7)
    controls = randoms(rng, insecure, 5, 0.05)
    excess = difference_in_differences(insecure, secure, ablated, controls, PLAN)
    feature = fraction_removed(insecure, secure, ablated, PLAN).value
    assert excess.value == pytest.approx(feature - random_fraction(insecure, secure, controls, PLAN).value)
    assert excess.low > 0.3


def test_controls_that_all_equal_the_feature_leave_nothing_beyond_random() -> None:
    insecure, secure, ablated = arms(np.random.default_rng(18), 0.7)
    excess = difference_in_differences(insecure, secure, ablated, [ablated] * 3, PLAN)
    assert (excess.value, excess.low, excess.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_feature_is_compared_with_where_one_more_random_direction_would_lie() -> None:
    plan = Resamples.of_families(families_of([1, 1]), n=40000)
    shares = np.array([-0.1, 0.0, 0.05, 0.1, 0.2])
    controls = [np.full(2, 1 - share) for share in shares]
    excess = difference_in_differences([1.0, 1.0], [0.0, 0.0], [0.3, 0.3], controls, plan)
    reach = 2.776 * shares.std(ddof=1) * math.sqrt(1 + 1 / 5)  # Student's t with 4 degrees of freedom
    assert excess.value == pytest.approx(0.7 - shares.mean())
    assert (excess.low, excess.high) == pytest.approx(
        (excess.value - reach, excess.value + reach), abs=0.05 * reach
    )


@pytest.mark.parametrize(("controls", "spread"), [(3, 0.1), (5, 0.1), (5, 0.02)])
def test_one_more_random_direction_seldom_beats_the_random_directions(controls: int, spread: float) -> None:
    rng = np.random.default_rng(19)
    beats = []
    for _ in range(200):
        insecure, secure, _ = arms(rng, 0)
        feature, *rest = randoms(rng, insecure, controls + 1, spread)
        beats.append(difference_in_differences(insecure, secure, feature, rest, PLAN).low > 0)
    assert np.mean(beats) <= 0.06


# Rates


def test_wilson_agrees_with_the_published_example() -> None:
    assert str(wilson(81, 263)) == "0.31 [0.26, 0.37]"  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (wilson(81, 263).low, wilson(81, 263).high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(n=st.integers(1, 300), data=st.data())
def test_a_wilson_interval_stays_within_zero_and_one_and_mirrors(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    rate, rest = wilson(hits, n), wilson(n - hits, n)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert rate.low < rate.high
    assert (rest.low, rest.high) == pytest.approx((1 - rate.high, 1 - rate.low))


# Power


@pytest.mark.parametrize("icc", [0.05, 0.3, 0.8])
def test_the_detectable_shift_is_detected_four_times_in_five(icc: float) -> None:
    rng = np.random.default_rng(20)
    promised = np.mean([minimum_detectable(clustered(rng, icc), FAMILIES) for _ in range(200)])
    shown = [mean_interval(clustered(rng, icc, promised), PLAN).low > 0 for _ in range(600)]
    assert 0.74 <= np.mean(shown) <= 0.88


def test_the_detectable_shift_is_that_of_the_t_test_of_family_means() -> None:
    values = clustered(np.random.default_rng(21), 0.3)
    means = values.reshape(N_FAMILIES, SIZE).mean(axis=1)
    reach = stats.t.ppf([0.975, 0.8], N_FAMILIES - 1).sum()
    assert minimum_detectable(values, FAMILIES) == pytest.approx(reach * stats.sem(means))


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(0.3, 3), icc=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_the_questions_needed_undo_the_detectable_shift(factor: float, icc: float, seed: int) -> None:
    values = clustered(np.random.default_rng(seed), icc)
    smallest = minimum_detectable(values, FAMILIES)
    assert questions_needed(smallest, values, FAMILIES) == len(FAMILIES)
    needed = questions_needed(factor * smallest, values, FAMILIES)
    assert needed % SIZE == 0
    assert needed - SIZE - 1e-6 <= max(len(FAMILIES) / factor**2, SIZE) <= needed + 1e-6


def test_more_power_or_more_confidence_takes_a_larger_shift() -> None:
    values = clustered(np.random.default_rng(23), 0.3)
    plain = minimum_detectable(values, FAMILIES)
    assert minimum_detectable(values, FAMILIES, power=0.9) > plain
    assert minimum_detectable(values, FAMILIES, level=0.99) > plain
    assert questions_needed(0.2, values, FAMILIES, power=0.9) > questions_needed(0.2, values, FAMILIES)


# What cannot be used


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Resamples.of_families(["one"] * 9), "9 questions of 1 families"),
        (lambda: Resamples.of_families([]), "0 questions of 0 families"),
        (lambda: Resamples.of_families(FAMILIES, n=3), "at least 100"),
        (lambda: mean_interval([0.0, 1.0], PLAN), r"shape \(2,\) came for 120"),
        (lambda: difference([0.0] * 120, [0.0], PLAN), r"shape \(1,\) came for 120"),
        (lambda: mean_interval([0.0] * 119 + [math.nan], PLAN), "nan at position 119"),
        (lambda: fraction_removed([0.0] * 120, [0.0] * 120, [math.inf] * 120, PLAN), "inf at position 0"),
        (lambda: random_fraction([0.0] * 120, [1.0] * 120, [[0.0] * 120], PLAN), "1 random controls"),
        (lambda: difference_in_differences([0.0] * 120, [1.0] * 120, [0.0] * 120, [], PLAN), "0 random"),
        (lambda: PLAN.interval([0.0] * 1000, 0.0, level=95.0), "rate of 95"),
        (lambda: wilson(3, 2), "3 of 2"),
        (lambda: wilson(0, 0), "0 of 0"),
        (lambda: wilson(-1, 2), "-1 of 2"),
        (lambda: minimum_detectable([0.0] * 120, FAMILIES, power=80.0), "power of 80"),
        (lambda: minimum_detectable([0.0] * 7, FAMILIES), r"shape \(7,\) came for 120"),
        (lambda: questions_needed(0.0, [0.0] * 120, FAMILIES), "effect of 0.0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_came(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        attempt()


def test_statistics_need_no_torch() -> None:
    for module in Path(intervals.__file__).parent.glob("*.py"):
        tree = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        imported = {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}
        inside = {name for name in imported if name.startswith("personaprobe.statistics.")}
        allowed = {
            "__future__",
            "collections.abc",
            "dataclasses",
            "functools",
            "typing",
            "jaxtyping",
            "scipy",
        }
        assert imported - inside <= allowed | {"personaprobe.errors"}
