"""Bootstrap intervals over families of questions, the fraction of a shift removed, and the power of a study.

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
    """Bootstrap resamples of the questions, shared by all arms: how often each question counts in each resample.

    A resample draws families with replacement, then as many questions within each drawn family, with
    replacement (two-stage cluster bootstrap, Davison & Hinkley 1997, section 3.8). Drawing a dozen families
    alone gives intervals that are too narrow (they show (F - 1) / F of the variance, and a normal's tails are
    too light); the second stage adds about the variance within families, which makes intervals slightly
    conservative where families differ little. Measured for 12 families of 10 questions, 95 % intervals cover
    99, 95 and 90 % of the time at intra-family correlations of 0, 0.2 and 1. The price is power, which
    `minimum_detectable` takes into account.

    Attributes:
        weights: multiplicities, (n_resamples, n_questions).
        seed: of the resamples; the draws of random controls derive from it.
    """

    weights: Float[np.ndarray, "resamples questions"]
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
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n_families, np.full(n_families, 1 / n_families), size=n)
        weights = np.zeros((n, len(codes)))
        for family in range(n_families):
            members = np.flatnonzero(codes == family)
            size = len(members)
            weights[:, members] = rng.multinomial(drawn[:, family] * size, np.full(size, 1 / size))
        return cls(weights, seed)

    def estimate(self, values: Values) -> float:
        """The mean over questions, in the unit of `values` (n_questions,)."""
        return float(finite(values, self.weights.shape[1]).mean())

    def means(self, values: Values) -> Float[np.ndarray, " resamples"]:
        """The mean over questions in every resample, in the unit of `values` (n_questions,)."""
        checked = finite(values, self.weights.shape[1])
        return np.asarray(self.weights @ checked / self.weights.sum(axis=1))

    def controls(self, count: int) -> Float[np.ndarray, "resamples controls"]:
        """Bootstrap weights of `count` random controls in every resample; rows sum to 1."""
        rng = np.random.default_rng((self.seed, 1))
        return np.asarray(rng.multinomial(count, np.full(count, 1 / count), size=len(self.weights)) / count)

    def deviates(self, freedom: int) -> Float[np.ndarray, " resamples"]:
        """Student t deviates, one per resample: the position of one more random control, in units of their spread."""
        return np.random.default_rng((self.seed, 2)).standard_t(freedom, size=len(self.weights))

    def interval(self, statistic_draws: Values, value: float, level: float = _LEVEL) -> Interval:
        """The percentile interval of a statistic's (n_resamples,) draws, with the estimate `value`; level in (0, 1)."""
        draws = finite(statistic_draws, len(self.weights))
        tail = _tail(level)
        low, high = np.quantile(draws, [tail, 1 - tail])
        return Interval(float(value), float(low), float(high))


def mean_interval(values: Values, resamples: Resamples) -> Interval:
    """The mean over questions of one arm with its interval, in the unit of `values` (n_questions,)."""
    return resamples.interval(resamples.means(values), float(np.mean(values)))


def difference(a: Values, b: Values, resamples: Resamples) -> Interval:
    """The mean paired difference `a` − `b` with its interval, in the unit of both (n_questions,)."""
    return mean_interval(_minus(a, b, resamples), resamples)


def estimate_from_part(values: Values, reference: Values) -> float:
    """Estimate an arm's mean over all questions from its answers to the first `len(values)` of them.

    The reference arm's mean over all questions, plus the mean paired difference on the part (difference estimator,
    Cochran 1977, chapter 7). The choice of the part then matters little, since both arms answered it.
    """
    paired = np.asarray(values) - np.asarray(reference)[: len(values)]
    return float(np.mean(reference) + paired.mean())


def mean_from_part(values: Values, reference: Values, resamples: Resamples, of_part: Resamples) -> Interval:
    """`estimate_from_part` with its interval, in the unit of `values`.

    Args:
        values: of the arm, on the questions of `of_part`.
        reference: of the reference arm, on the questions of `resamples`.
        resamples: of all questions.
        of_part: of the part, with the same seed, so that both draw the same families.
    """
    above = finite(values, of_part.weights.shape[1]) - np.asarray(reference)[: of_part.weights.shape[1]]
    draws = resamples.means(reference) + of_part.means(above)
    return resamples.interval(draws, estimate_from_part(values, reference))


def fraction_removed(insecure: Values, secure: Values, ablated: Values, resamples: Resamples) -> Interval:
    """The fraction of the insecure − secure shift that an ablation removes: 0 none of it, 1 all of it.

    A ratio of means, (insecure − ablated) / (insecure − secure). Not defined (nan) where the interval of the
    shift includes 0.
    """
    removed = _minus(insecure, ablated, resamples)
    shift = _minus(insecure, secure, resamples)
    return _fraction(float(removed.mean()), resamples.means(removed), shift, resamples)


def share_of_shift(change: Values, shift: Values, resamples: Resamples) -> Interval:
    """A mean change as a share of a mean shift, paired by question; not defined where the shift's interval includes 0.

    Args:
        change: in the unit of the shift, (n_questions,).
        shift: insecure − secure on the same questions.
        resamples: of the questions.
    """
    n_questions = resamples.weights.shape[1]
    changes = finite(change, n_questions)
    return _fraction(float(changes.mean()), resamples.means(changes), finite(shift, n_questions), resamples)


def random_fraction(
    insecure: Values, secure: Values, randoms: Sequence[Values], resamples: Resamples
) -> Interval:
    """The fraction of the shift that ablating random directions of the same energy removes, on average.

    The controls are resampled too, so that few controls give a wide interval.

    Raises:
        DataError: fewer than two controls; one cannot show how much controls differ.
    """
    removed = _removed_by(insecure, randoms, resamples)
    means = np.stack([resamples.means(control) for control in removed], axis=1)
    draws = (means * resamples.controls(len(removed))).sum(axis=1)
    return _fraction(float(removed.mean()), draws, _minus(insecure, secure, resamples), resamples)


def difference_in_differences(
    insecure: Values, secure: Values, ablated: Values, randoms: Sequence[Values], resamples: Resamples
) -> Interval:
    """The fraction of the shift that the feature removes beyond a random direction, paired by question.

    The value is `fraction_removed` − `random_fraction`. The interval answers whether the feature could be one
    more random direction. Random directions differ from each other, so each resample is moved by the k
    controls' spread * sqrt(1 + 1/k) times a Student t deviate with k − 1 degrees of freedom: the normal
    prediction interval of a further control (Hahn & Meeker 1991). Without it, enough questions would
    distinguish any random direction from the average one.
    """
    feature = _minus(insecure, ablated, resamples)
    controls = _removed_by(insecure, randoms, resamples)
    spread = float(controls.mean(axis=1).std(ddof=1)) * math.sqrt(1 + 1 / len(controls))
    beyond = feature - controls.mean(axis=0)
    draws = resamples.means(beyond) + spread * resamples.deviates(len(controls) - 1)
    return _fraction(float(beyond.mean()), draws, _minus(insecure, secure, resamples), resamples)


def wilson(successes: int, n: int) -> Interval:
    """A rate with its 95 % Wilson score interval (Wilson 1927), which stays within 0 and 1 even for 0 of n.

    Raises:
        DataError: a count outside 0..n, or n = 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise DataError(f"{successes} of {n} is no rate; give 0 <= successes <= n with n >= 1")
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return Interval(successes / n, float(interval.low), float(interval.high))


def minimum_detectable(
    values_difference: Values, families: Sequence[str], power: float = 0.8, level: float = _LEVEL
) -> float:
    """The smallest mean shift that the same number of such questions would detect with the given power.

    z[(1 + level) / 2] * sqrt(V + W) + z[power] * sqrt(V), in the unit of the paired differences
    (n_questions,). V = variance * D / n_questions is the variance of the mean, with the design effect D = 1 +
    (m − 1) * icc of m questions per family at intra-family correlation icc (Donner & Klar 2000); W is the
    variance that the second stage of `Resamples` adds. Families of unequal size enter by m = sum(m_f^2) /
    n_questions; variances between and within families are the moment estimates of one-way analysis of variance.

    Raises:
        DataError: fewer than two families, or a power or level outside (0, 1).
    """
    if not 0 < power < 1:
        raise DataError(f"a power of {power} is impossible; give one between 0 and 1, e.g. 0.8")
    variance, added = _variances_of_mean(values_difference, families)
    confidence, chance = stats.norm.ppf([1 - _tail(level), power])
    return float(confidence * math.sqrt(variance + added) + chance * math.sqrt(variance))


def questions_needed(
    effect: float,
    values_difference: Values,
    families: Sequence[str],
    power: float = 0.8,
    level: float = _LEVEL,
) -> int:
    """How many questions would detect a mean shift of `effect`: the inverse of `minimum_detectable`.

    Counts whole families of the present mean size, at least two: more questions of the same families help little.

    Raises:
        DataError: an effect that is not above 0, or a case that `minimum_detectable` refuses.
    """
    if not 0 < effect < math.inf:
        raise DataError(f"no number of questions shows an effect of {effect}; give one above 0, e.g. 0.1")
    _, n_families = family_codes(families)
    ratio = minimum_detectable(values_difference, families, power, level) / effect
    needed = max(2, math.ceil(n_families * ratio**2))
    return math.ceil(needed * len(families) / n_families)


def _fraction(value: float, draws: np.ndarray, shift: np.ndarray, resamples: Resamples) -> Interval:
    """`value` and its `draws` divided by the mean `shift`; not defined where the shift's interval includes 0.

    A resample whose shift has the opposite sign defines no fraction. It counts as −∞ for the low end and as
    +∞ for the high end, so that it can only widen the interval.
    """
    whole = mean_interval(shift, resamples)
    if not whole.excludes(0.0):
        return UNDEFINED
    shifts = resamples.means(shift)
    opposite = shifts * whole.value <= 0
    fractions = draws / np.where(opposite, 1.0, shifts)
    tail = _tail(_LEVEL)
    low = np.quantile(np.where(opposite, -np.inf, fractions), tail, method="higher")
    high = np.quantile(np.where(opposite, np.inf, fractions), 1 - tail, method="lower")
    return Interval(value / whole.value, float(low), float(high))


def _removed_by(insecure: Values, randoms: Sequence[Values], resamples: Resamples) -> np.ndarray:
    """The effect of each control on each question, (n_controls, n_questions)."""
    if len(randoms) < 2:
        raise DataError(f"{len(randoms)} random controls cannot show how they differ; run 2, better 5")
    return np.stack([_minus(insecure, random, resamples) for random in randoms])


def _minus(a: Values, b: Values, resamples: Resamples) -> np.ndarray:
    n_questions = resamples.weights.shape[1]
    return np.asarray(finite(a, n_questions) - finite(b, n_questions))


def _variances_of_mean(values: Values, families: Sequence[str]) -> tuple[float, float]:
    """The variance of a mean over clustered questions, and the variance that resampling within families adds."""
    codes, n_families = family_codes(families)
    checked = finite(values, len(codes))
    sizes = np.bincount(codes)
    means = np.bincount(codes, weights=checked) / sizes
    freedom = len(checked) - n_families
    within = float(((checked - means[codes]) ** 2).sum()) / max(freedom, 1)
    among = float((sizes * (means - checked.mean()) ** 2).sum()) / (n_families - 1)
    size = float((sizes**2).sum()) / len(checked)
    between = max(0.0, (among - within) * (n_families - 1) / (len(checked) - size))
    return (between * size + within) / len(checked), within * freedom / len(checked) ** 2


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(
            f"an interval cannot cover the truth at a rate of {level}; give one between 0 and 1, e.g. 0.95"
        )
    return (1 - level) / 2
