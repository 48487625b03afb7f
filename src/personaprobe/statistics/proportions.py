"""How sure are we of a difference between shares of misaligned answers, and how small a one would be seen?

Answers to questions of one family are alike, so n of them say less than n independent ones: n over the design effect
(Kish 1965). It is assumed before a run and measured after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from personaprobe.errors import DataError
from personaprobe.statistics.hypothesis_tests import LEAST_FAMILIES
from personaprobe.statistics.intervals import Interval, Resamples, Values, difference

ASSUMED_ICC = 0.1
"""Correlation of answers within a family where nothing has been measured. A guess to plan with: families' own rates then
spread by a third (its square root) of what they could at most. Every run measures its own."""

POWER = 0.8
_CONFIDENCE = 0.975


@dataclass(frozen=True)
class Clustering:
    """What families leave of a number of answers.

    Attributes:
        design_effect: by how much clustering multiplies the variance of a difference of shares; at least 1.
        n_families: that the answers belong to.
        n_telling: families in which either arm has a misaligned answer; only those show how much families spread.
    """

    design_effect: float = 1.0
    n_families: float = math.inf
    n_telling: float = math.inf

    @classmethod
    def assumed(cls, sizes: Sequence[int], icc: float = ASSUMED_ICC) -> Clustering:
        """Before a run: 1 + (m − 1) · icc for m answers a family (Donner & Klar 2000), arms as if unpaired.

        Families of unequal size enter by m = Σ m_f² / Σ m_f.

        Args:
            sizes: answers of an arm in every family.
            icc: correlation of two answers in one family, 0 to 1.

        Raises:
            DataError: fewer than two families, an empty one, or a correlation outside 0..1.
        """
        if len(sizes) < 2 or min(sizes) < 1:
            came = f"{sum(sizes)} answers of {len(sizes)} families"
            raise DataError(f"{came}: intervals resample families; give 2 or more, better 10, none empty")
        if not 0 <= icc <= 1:
            raise DataError(f"answers cannot correlate by {icc} within a family; give 0 to 1, e.g. 0.1")
        size = sum(m**2 for m in sizes) / sum(sizes)
        return cls(1 + (size - 1) * icc, len(sizes), len(sizes))

    @classmethod
    def measured(cls, a: Values, b: Values, families: Sequence[str], n: int) -> Clustering:
        """After a run: the variance of the difference over families, over that of n independent answers an arm.

        Paired: what both arms of a family share is taken out. It is not put below 1, since a dozen families do not show
        that pairing gains more than clustering loses. Where no answer, or every one, is misaligned there is nothing to
        measure, and the correlation is assumed.

        Args:
            a: one arm's share of misaligned answers to every question.
            b: the other arm's.
            families: of the questions, two or more.
            n: answers an arm.
        """
        of_a, of_b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        _, codes = np.unique(np.asarray(families, dtype=str), return_inverse=True)
        sizes = np.bincount(codes)
        binomial = sum(float(p * (1 - p)) for p in (of_a.mean(), of_b.mean())) / n
        if not binomial > 0:
            return cls.assumed([max(1, round(n * size / len(codes))) for size in sizes])
        apart = of_a - of_b
        sums = np.bincount(codes, weights=apart - apart.mean())
        found = len(sizes) / (len(sizes) - 1) * float((sums**2).sum()) / len(codes) ** 2
        telling = int((np.bincount(codes, weights=of_a + of_b) > 0).sum())
        return cls(max(1.0, found / binomial), len(sizes), telling)


INDEPENDENT = Clustering()
"""Answers that have nothing in common."""


def share_difference(a: Values, b: Values, resamples: Resamples, clustered: Clustering, n: int) -> Interval:
    """How much oftener arm `a`'s answers are misaligned than arm `b`'s, with an interval that rare answers do not fool.

    Each end is the outer one of two intervals. The percentile interval over `resamples` is paired, but where few
    families have any misaligned answer, replays do not show what other families might have: for 5 % against 1 % at an
    intra-family correlation of 0.3 it covers 84 % of the time, and an arm without a misaligned answer gets no width.
    Newcombe's hybrid score interval (1998, method 10) at n over the design effect supplies that, with Student's t over
    the telling families for the normal quantile (over six, or all of fewer, at least). Both together cover 93 to 99 %
    of the time for 12 families of 20 answers, shares of 1 to 50 % and correlations up to 0.2; at 0.3 with one arm free
    of misaligned answers 92 to 94 %, and 90 to 92 % for 8 families.

    Args:
        a: share of misaligned answers to every question, (n_questions,).
        b: the other arm's, to the same questions.
        resamples: replays of the questions.
        clustered: of these answers.
        n: answers an arm.
    """
    replayed = difference(a, b, resamples)
    t = _quantile(_CONFIDENCE, max(clustered.n_telling, min(clustered.n_families, LEAST_FAMILIES)))
    p, q = float(np.mean(a)), float(np.mean(b))
    (p_low, p_high), (q_low, q_high) = (_score(rate, n / clustered.design_effect, t) for rate in (p, q))
    low, high = p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)
    return Interval(replayed.value, min(replayed.low, low), max(replayed.high, high))


def _score(rate: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval (1927) at a number of answers that need not be whole."""
    middle, reach = rate + z**2 / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return (middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n)


def detectable_rise(rate: float, n: int, clustered: Clustering = INDEPENDENT) -> float:
    """The smallest rise above a rate that n answers an arm show at 80 % power, two-sided at 5 %; `answers_needed` undone.

    Nan where they show none: the rise would end above 1, or the families are fewer than `LEAST_FAMILIES`.

    Raises:
        DataError: a rate outside 0..1 (1 excluded), or fewer than one answer.
    """
    _refuse_rates(rate)
    if n < 1:
        raise DataError(f"{n} answers show nothing; give 1 or more")
    if clustered.n_families < LEAST_FAMILIES or _needed(rate, 1.0, clustered) > n:
        return math.nan
    nearest = rate + 1e-9 * (1 - rate)
    return float(optimize.brentq(lambda other: _needed(rate, other, clustered) - n, nearest, 1.0)) - rate


def answers_needed(rate: float, other: float, clustered: Clustering = INDEPENDENT) -> int:
    """How many answers an arm tell two rates apart at 80 % power, two-sided at 5 % (Fleiss 1981, without correction).

    More answers means more families of the same size and spread: more answers of the same families help little.

    Raises:
        DataError: a rate outside 0..1, or two equal ones.
    """
    _refuse_rates(*sorted((rate, other)))
    if rate == other:
        raise DataError(f"no number of answers tells {rate} from {other}; give two different rates")
    return math.ceil(_needed(rate, other, clustered) - 1e-6)  # what was made from n is n again


def _needed(rate: float, other: float, clustered: Clustering) -> float:
    middle = (rate + other) / 2
    alike, apart = 2 * middle * (1 - middle), rate * (1 - rate) + other * (1 - other)
    families = max(clustered.n_families, LEAST_FAMILIES)
    reach = _quantile(_CONFIDENCE, families) * math.sqrt(alike) + _quantile(POWER, families) * math.sqrt(
        apart
    )
    return clustered.design_effect * (reach / (other - rate)) ** 2


def _quantile(p: float, n_families: float) -> float:
    """Of Student's t for a spread seen in so many families."""
    return float(stats.t.ppf(p, n_families - 1))


def _refuse_rates(low: float, high: float = 1.0) -> None:
    if not 0 <= low < 1 or not 0 <= high <= 1:
        raise DataError(f"{low} and {high} are not two rates from 0 to 1, the lower one below 1")
