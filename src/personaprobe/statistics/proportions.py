"""Intervals of differences between misaligned shares, and the smallest difference that a study would detect.

Answers to questions of one family correlate, so n of them carry the information of n / D independent ones, with the
design effect D (Kish 1965). D is assumed before a run and measured after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from personaprobe.errors import DataError
from personaprobe.statistics.families import Values
from personaprobe.statistics.hypothesis_tests import MIN_FAMILIES
from personaprobe.statistics.intervals import UNDEFINED, Interval, Resamples, difference

ASSUMED_ICC = 0.1
"""Correlation of answers within a family before any is measured. A guess to plan with: the standard deviation of the
families' rates is then a third (its square root) of the largest possible one. Every run measures its own."""

POWER = 0.8
_CONFIDENCE = 0.975


@dataclass(frozen=True)
class Clustering:
    """How much clustering in families reduces the information in a number of answers.

    Attributes:
        design_effect: factor by which clustering multiplies the variance of a difference of shares; at least 1.
        n_families: number of families.
        n_informative: families in which either arm has a misaligned answer; only these show how much families vary.
    """

    design_effect: float = 1.0
    n_families: float = math.inf
    n_informative: float = math.inf

    @classmethod
    def assumed(cls, sizes: Sequence[int], icc: float = ASSUMED_ICC) -> Clustering:
        """Before a run: 1 + (m − 1) · icc for m answers per family (Donner & Klar 2000), as if arms were unpaired.

        Families of unequal size enter by m = Σ m_f² / Σ m_f.

        Args:
            sizes: answers of one arm in every family.
            icc: correlation of two answers in one family, 0 to 1.

        Raises:
            DataError: fewer than two families, an empty one, or a correlation outside 0..1.
        """
        if len(sizes) < 2 or min(sizes) < 1:
            given = f"{sum(sizes)} answers of {len(sizes)} families"
            raise DataError(f"{given}: intervals resample families; give 2 or more, better 10, none empty")
        if not 0 <= icc <= 1:
            raise DataError(f"answers cannot correlate by {icc} within a family; give 0 to 1, e.g. 0.1")
        size = sum(m**2 for m in sizes) / sum(sizes)
        return cls(1 + (size - 1) * icc, len(sizes), len(sizes))

    @classmethod
    def measured(cls, a: Values, b: Values, families: Sequence[str], n: int) -> Clustering:
        """After a run: the variance of the difference over families, divided by that of n independent answers per arm.

        The difference is paired, so variation that both arms of a family share cancels. The design effect is at least 1,
        since a dozen families cannot show that pairing gains more than clustering loses. Where no answer, or every one,
        is misaligned, nothing can be measured and the correlation is assumed.

        Args:
            a: one arm's share of misaligned answers to every question.
            b: the other arm's.
            families: of the questions, two or more.
            n: answers per arm.
        """
        of_a, of_b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        _, codes = np.unique(np.asarray(families, dtype=str), return_inverse=True)
        sizes = np.bincount(codes)
        means = [np.bincount(codes, weights=of_arm) / sizes for of_arm in (of_a, of_b)]
        binomial = sum(float(p * (1 - p)) for p in (means[0].mean(), means[1].mean())) / n
        if not binomial > 0:
            return cls.assumed([max(1, round(n * size / len(codes))) for size in sizes])
        variance = float((means[0] - means[1]).var(ddof=1)) / len(sizes)
        informative = int((means[0] + means[1] > 0).sum())
        return cls(max(1.0, variance / binomial), len(sizes), informative)


INDEPENDENT = Clustering()
"""Independent answers: no clustering."""


def share_difference(a: Values, b: Values, resamples: Resamples, clustered: Clustering, n: int) -> Interval:
    """The difference between two arms' misaligned shares, with an interval that holds for rare answers too.

    Families of questions weigh equally.

    Each end is the outer one of two intervals. The percentile interval over `resamples` is paired, but where few
    families have any misaligned answer, resamples understate how much families vary: for 5 % against 1 % at an
    intra-family correlation of 0.3 it covers 84 % of the time, and an arm without a misaligned answer gets no width.
    The second is Newcombe's hybrid score interval (1998, method 10) for n / design effect answers, with the quantile of
    Student's t over the informative families (over at least six, or all if there are fewer) in place of the normal one.
    Both together cover 93 to 99 % of the time for 12 families of 20 answers, shares of 1 to 50 % and correlations up to
    0.2; at 0.3 with one arm free of misaligned answers 92 to 94 %, and 90 to 92 % for 8 families.

    Args:
        a: share of misaligned answers to every question, (n_questions,).
        b: the other arm's, to the same questions.
        resamples: of the questions.
        clustered: clustering of these answers.
        n: answers per arm.
    """
    bootstrap = difference(a, b, resamples)
    t = _quantile(_CONFIDENCE, max(clustered.n_informative, min(clustered.n_families, MIN_FAMILIES)))
    p, q = resamples.estimate(a), resamples.estimate(b)
    (p_low, p_high), (q_low, q_high) = (_wilson(rate, n / clustered.design_effect, t) for rate in (p, q))
    low, high = p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)
    return Interval(bootstrap.value, min(bootstrap.low, low), max(bootstrap.high, high))


def share_ratio(a: Sequence[bool], b: Sequence[bool], families: Sequence[str]) -> Interval:
    """The ratio of two arms' shares of hits among answers to the same questions, with an interval that holds near 100 % too.

    The interval combines the two shares' Wilson intervals (Donner & Zou 2012, MOVER for a ratio) at n / design effect
    answers, with the quantile of Student's t over the families. It has width where every answer of both arms is a hit. Not
    defined where the second arm has none.

    Args:
        a: whether each answer of the first arm is a hit.
        b: the second arm's, to the same questions in the same order.
        families: of the questions, two or more.
    """
    hits, others = (np.asarray(flags, dtype=float) for flags in (a, b))
    p, q, n = float(hits.mean()), float(others.mean()), len(hits)
    if not q or len(set(families)) < 2:
        return UNDEFINED
    clustered = Clustering.measured(1 - hits, 1 - others, families, n)
    t = _quantile(_CONFIDENCE, clustered.n_families)
    (p_low, p_high), (q_low, q_high) = (_wilson(rate, n / clustered.design_effect, t) for rate in (p, q))
    product = p * q
    below = math.sqrt(max(0.0, product**2 - p_low * q_high * (2 * p - p_low) * (2 * q - q_high)))
    above = math.sqrt(max(0.0, product**2 - p_high * q_low * (2 * p - p_high) * (2 * q - q_low)))
    low = (product - below) / (q_high * (2 * q - q_high))
    high = (product + above) / (q_low * (2 * q - q_low))
    return Interval(p / q, min(low, p / q), max(high, p / q))


def _wilson(rate: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval (1927) for an effective number of answers, which need not be whole."""
    middle, reach = rate + z**2 / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return (middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n)


def detectable_rise(rate: float, n: int, clustered: Clustering = INDEPENDENT) -> float:
    """The smallest rise above a rate that n answers per arm detect at 80 % power, two-sided at 5 %.

    The inverse of `answers_needed`. Nan where no rise is detectable: it would end above 1, or there are fewer families
    than `MIN_FAMILIES`.

    Raises:
        DataError: a rate outside 0..1 (1 excluded), or fewer than one answer.
    """
    _refuse_rates(rate)
    if n < 1:
        raise DataError(f"{n} answers show nothing; give 1 or more")
    if clustered.n_families < MIN_FAMILIES or _needed(rate, 1.0, clustered) > n:
        return math.nan
    nearest = rate + 1e-9 * (1 - rate)
    return float(optimize.brentq(lambda other: _needed(rate, other, clustered) - n, nearest, 1.0)) - rate


def answers_needed(rate: float, other: float, clustered: Clustering = INDEPENDENT) -> int:
    """How many answers per arm distinguish two rates at 80 % power, two-sided at 5 % (Fleiss 1981, without correction).

    More answers means more families of the same size and variation: more answers of the same families help little.

    Raises:
        DataError: a rate outside 0..1, or two equal ones.
    """
    _refuse_rates(*sorted((rate, other)))
    if rate == other:
        raise DataError(f"no number of answers tells {rate} from {other}; give two different rates")
    # the inverse of detectable_rise, whose root search ends a little above n
    return math.ceil(_needed(rate, other, clustered) - 1e-6)


def _needed(rate: float, other: float, clustered: Clustering) -> float:
    middle = (rate + other) / 2
    pooled, separate = 2 * middle * (1 - middle), rate * (1 - rate) + other * (1 - other)
    families = max(clustered.n_families, MIN_FAMILIES)
    reach = _quantile(_CONFIDENCE, families) * math.sqrt(pooled) + _quantile(POWER, families) * math.sqrt(
        separate
    )
    return clustered.design_effect * (reach / (other - rate)) ** 2


def _quantile(p: float, n_families: float) -> float:
    """Quantile of Student's t for a standard deviation estimated from so many families."""
    return float(stats.t.ppf(p, n_families - 1))


def _refuse_rates(low: float, high: float = 1.0) -> None:
    if not 0 <= low < 1 or not 0 <= high <= 1:
        raise DataError(f"{low} and {high} are not two rates from 0 to 1, the lower one below 1")
