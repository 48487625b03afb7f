"""Estimates with their intervals: means over questions, in which families weigh equally, and rates.

Every arm answers the same questions, so an arm is one array of per-question values (nats per token for the
preference gap) in the order of the questions. All estimates use the same `Resamples`, which pairs the arms.
Every function raises DataError for values that are not one finite number per question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics.families import Values, family_codes, finite

_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; all three numbers are nan where the quantity is not defined."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        assert not self.low > self.high, f"an interval runs upwards, not from {self.low} to {self.high}"

    @property
    def defined(self) -> bool:
        """Whether the data define the quantity (the fraction of a shift of 0 is not defined)."""
        return not math.isnan(self.value)

    def excludes(self, x: float) -> bool:
        """Whether `x` lies outside the interval; an interval that is not defined excludes nothing."""
        return x < self.low or x > self.high

    @classmethod
    def exact(cls, value: float) -> Interval:
        """A number without uncertainty; NaN is an undefined quantity."""
        return cls(value, value, value)

    def scaled(self, factor: float) -> Interval:
        """The interval in another unit, `factor` of which (above 0) make one of the present unit."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)

    def __str__(self) -> str:
        return f"{self.value:z.2f} [{self.low:z.2f}, {self.high:z.2f}]" if self.defined else "not defined"

    def to_dict(self) -> dict[str, float | None]:
        """The three numbers for a JSON file, None where they are not defined (JSON has no nan)."""
        return {name: None if math.isnan(number) else number for name, number in asdict(self).items()}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, float | None]) -> Interval:
        """Read an interval from plain data: without a value it is undefined, an end that is None is infinite."""
        value, low, high = (numbers[name] for name in ("value", "low", "high"))
        if value is None:
            return UNDEFINED
        return cls(value, -math.inf if low is None else low, math.inf if high is None else high)


UNDEFINED = Interval(math.nan, math.nan, math.nan)
"""The interval of a quantity that these data do not define."""


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap resamples of families of questions, shared by all arms; a mean weighs families equally.

    A resample draws families with replacement. Drawing F families shows only (F − 1) / F of the variance, and a
    percentile interval has the quantiles of a normal distribution. Every resample is therefore moved away from the
    estimate by the factor sqrt(F / (F − 1)) · t / z, with the 97.5 % quantiles of Student's t for F − 1 degrees of freedom
    and of the normal distribution: percentile intervals get the width of the t interval of F family means (the expanded
    percentile interval, Hesterberg 2015, section 5.3). ``python -m tests.simulations.false_verdicts`` measures how often
    they cover the truth.

    Attributes:
        weights: of every question in every resample, (n_resamples, n_questions); rows sum to 1, and entries may be
            negative.
        equal: weights of the estimate: 1 / (number of families · questions of the family), (n_questions,).
        seed: of the resamples; the draws of controls derive from it.
    """

    weights: Float[np.ndarray, "resamples questions"]
    equal: Float[np.ndarray, " questions"]
    seed: int = 0

    @classmethod
    def of_families(cls, families: Sequence[str], n: int = 4000, seed: int = 0) -> Resamples:
        """Draw `n` resamples of questions whose i-th belongs to `families[i]`.

        Families are visited in the order of their names, so the order of the families in a file changes nothing.

        Raises:
            DataError: fewer than two families, or fewer than 100 resamples.
        """
        if n < 100:
            raise DataError(f"{n} resamples give no 95 % interval; draw at least 100, better 4000")
        codes, n_families = family_codes(families)
        equal = 1 / (n_families * np.bincount(codes)[codes])
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n_families, np.full(n_families, 1 / n_families), size=n)
        t = stats.t.ppf(1 - _tail(_LEVEL), n_families - 1)
        spread = math.sqrt(n_families / (n_families - 1)) * t / stats.norm.ppf(1 - _tail(_LEVEL))
        return cls(equal * (1 + spread * (drawn[:, codes] - 1)), equal, seed)

    def estimate(self, values: Values) -> float:
        """The mean of the families' means, in the unit of `values` (n_questions,)."""
        return float(self.equal @ finite(values, len(self.equal)))

    def means(self, values: Values) -> Float[np.ndarray, " resamples"]:
        """The mean of the families' means in every resample, in the unit of `values` (n_questions,)."""
        return np.asarray(self.weights @ finite(values, len(self.equal)))

    def mean_of_controls(self, count: int) -> Float[np.ndarray, " resamples"]:
        """Deviates of the mean of `count` controls, one per resample, in units of their standard deviation."""
        rng = np.random.default_rng((self.seed, 1))
        return np.asarray(rng.standard_t(count - 1, size=len(self.weights)) / math.sqrt(count))

    def best_of_further(self, count: int, candidates: int = 1) -> Float[np.ndarray, " resamples"]:
        """Deviates of the best of `candidates` further controls from the mean of `count`, in units of their spread.

        Mean and standard deviation of the controls are drawn from their sampling distribution, then the maximum of the
        further ones, all normal. A single one is Student's t with count − 1 degrees of freedom, times sqrt(1 + 1/count):
        the normal prediction interval (Hahn & Meeker 1991).
        """
        rng = np.random.default_rng((self.seed, 2))
        n = len(self.weights)
        spread = np.sqrt((count - 1) / rng.chisquare(count - 1, size=n))
        highest = stats.norm.ppf(rng.random(n) ** (1 / candidates))
        return np.asarray(spread * (rng.normal(size=n) / math.sqrt(count) + highest))

    def interval(self, statistic_draws: Values, value: float, level: float = _LEVEL) -> Interval:
        """The percentile interval of a statistic's (n_resamples,) draws, with the estimate `value`; level in (0, 1)."""
        draws = finite(statistic_draws, len(self.weights))
        tail = _tail(level)
        low, high = np.quantile(draws, [tail, 1 - tail])
        return Interval(float(value), float(low), float(high))


def mean_interval(values: Values, resamples: Resamples) -> Interval:
    """The mean of one arm, families weighed equally, with its interval, in the unit of `values` (n_questions,)."""
    return resamples.interval(resamples.means(values), resamples.estimate(values))


def difference(a: Values, b: Values, resamples: Resamples) -> Interval:
    """The mean paired difference `a` − `b` with its interval, in the unit of both (n_questions,)."""
    n_questions = len(resamples.equal)
    return mean_interval(finite(a, n_questions) - finite(b, n_questions), resamples)


def estimate_from_part(values: Values, reference: Values) -> float:
    """Estimate an arm's mean over all questions from its answers to the first `len(values)` of them.

    The reference arm's mean over all questions, plus the mean paired difference on the part (difference estimator,
    Cochran 1977, chapter 7). The choice of the part then matters little, since both arms answered it.
    """
    paired = np.asarray(values) - np.asarray(reference)[: len(values)]
    return float(np.mean(reference) + paired.mean())


def mean_from_part(values: Values, reference: Values, resamples: Resamples, of_part: Resamples) -> Interval:
    """`estimate_from_part` with its interval, families weighed equally, in the unit of `values`.

    Args:
        values: of the arm, on the questions of `of_part`.
        reference: of the reference arm, on the questions of `resamples`.
        resamples: of all questions.
        of_part: of the part, with the same seed, so that both draw the same families.
    """
    n_part = len(of_part.equal)
    above = finite(values, n_part) - np.asarray(reference)[:n_part]
    draws = resamples.means(reference) + of_part.means(above)
    return resamples.interval(draws, resamples.estimate(reference) + of_part.estimate(above))


def wilson(successes: int, n: int) -> Interval:
    """A rate with its 95 % Wilson score interval (Wilson 1927), which stays within 0 and 1 even for 0 of n.

    Raises:
        DataError: a count outside 0..n, or n = 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise DataError(f"{successes} of {n} is no rate; give 0 <= successes <= n with n >= 1")
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return Interval(successes / n, float(interval.low), float(interval.high))


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(
            f"an interval cannot cover the truth at a rate of {level}; give one between 0 and 1, e.g. 0.95"
        )
    return (1 - level) / 2
