"""Exact and permutation tests for judged answers, and false discovery rates among several tests.

All p-values are two-sided. The tests differ in their null hypothesis, and so in the claims they support:

====================  ==========================================  ===================================================
test                  null hypothesis                             supports claims about
====================  ==========================================  ===================================================
`fisher`              two rates of independent answers are equal  answers without clusters; published tables use it
`mcnemar`             a question's two answers are exchangeable   these questions only
`permutation_test`    a family's difference is as likely with     other families of questions too; makes the fewest
                      the opposite sign                           assumptions, and needs `MIN_FAMILIES` families
====================  ==========================================  ===================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics.families import Values

MIN_FAMILIES = 6
"""With fewer families no sign-flip p-value is below 0.05: with 5, equal signs alone have probability 2 / 2^5."""

MAX_ENUMERATED = 12
"""Up to so many families all 2^12 sign flips are enumerated; beyond, they are drawn at random."""

N_DRAWS = 9999
"""Random sign flips beyond that; with the observed signs they make 10000."""


@dataclass(frozen=True)
class RankTest:
    """The rank of a feature among matched controls.

    Attributes:
        beaten: controls that remove less than the feature.
        n: controls.
        p: two-sided; with n controls it is at least 2 / (n + 1).
    """

    beaten: int
    n: int
    p: float

    def to_dict(self) -> dict[str, float]:
        """As plain data."""
        return asdict(self)


def rank_test(removed: float, controls: Sequence[float]) -> RankTest:
    """Whether a feature's effect could be that of one more control, from its rank alone (a Monte Carlo test, Barnard 1963).

    Under the null hypothesis the feature is exchangeable with its controls, so every rank is equally likely; no
    distribution is assumed. Ties count against the feature.

    Args:
        removed: by the feature.
        controls: removed by each control, in the same unit.

    Raises:
        DataError: no control, or an effect that is not finite.
    """
    values = np.asarray(controls, dtype=float)
    if not len(values) or not np.isfinite([removed, *values]).all():
        raise DataError(
            f"{removed} among {len(values)} controls has no rank; give finite numbers and one control or more"
        )
    beaten, not_above = int((values < removed).sum()), int((values <= removed).sum())
    n = len(values)
    tail = min(1 + n - beaten, 1 + not_above) / (n + 1)
    return RankTest(beaten, n, min(1.0, 2 * tail))


def fisher(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Fisher's exact test of two independent rates.

    Boschloo's and Barnard's tests have more power, but maximise over an unknown rate by numerical search (seconds for
    a few hundred answers). Fisher's keeps its level at every rate without a search, errs towards no difference, and is
    the one in published tables.

    Args:
        a: ``(misaligned, scored)`` answers of one arm.
        b: the same of the other arm.

    Raises:
        DataError: a count outside 0..n, or an arm without answers.
    """
    for hits, n in (a, b):
        if not 0 <= hits <= n or n == 0:
            raise DataError(f"{hits} of {n} is no rate; give 0 <= successes <= n with n >= 1")
    table = [[hits, n - hits] for hits, n in (a, b)]
    return float(stats.fisher_exact(table).pvalue)


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test of paired answers: the discordant pairs are fair coin tosses under the null hypothesis.

    Families need no correction as long as nothing is claimed about other questions. Without a discordant pair p is 1.

    Args:
        only_a: pairs in which only the first arm's answer is misaligned.
        only_b: pairs in which only the second arm's answer is.

    Raises:
        DataError: a negative count.
    """
    if min(only_a, only_b) < 0:
        raise DataError(f"{only_a} and {only_b} discordant pairs were counted; give numbers of at least 0")
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def permutation_test(differences: Values, families: Sequence[str], seed: int = 0) -> float:
    """Sign-flip permutation test of the mean of families' mean paired differences (Fisher 1935, chapter 3).

    A family keeps its questions together, so that nothing is assumed about questions of the same family. The observed
    signs count as one of the flips, which keeps the test exact when flips are drawn (Phipson & Smyth 2010).

    The test is SciPy's ``monte_carlo_test`` with the sign flips as draws. SciPy's ``permutation_test`` gives the same
    p-value for few families, but enumerates the flips in a Python loop.

    Args:
        differences: one arm minus another, ``(n_questions,)``.
        families: of the questions.
        seed: of the flips that are drawn.

    Raises:
        DataError: not one finite number for each question.
    """
    checked = np.asarray(differences, dtype=float)
    if checked.shape != (len(families),) or not len(families) or not np.isfinite(checked).all():
        given = f"differences of shape {checked.shape} came for {len(families)} families' entries"
        raise DataError(f"{given}; give one finite number for each question")
    _, codes = np.unique(np.asarray(families, dtype=str), return_inverse=True)
    means = np.bincount(codes, weights=checked) / np.bincount(codes)
    flips = _sign_flips(len(means), seed)
    # totals are cut off just below the observed one, so that totals which differ by rounding only count as equal
    observed = abs(means.sum()) - 1e-9 * np.abs(means).sum()

    def capped_total(flipped: np.ndarray, axis: int) -> Any:
        return np.minimum(np.abs(flipped.sum(axis=axis)), observed)

    result = stats.monte_carlo_test(
        means, lambda size: flips * means, capped_total, n_resamples=len(flips), alternative="greater"
    )
    return float(result.pvalue)


def false_discovery(p_values: Sequence[float]) -> tuple[float, ...]:
    """The q-values of several tests: the false discovery rate among all tests with a q as small (Benjamini & Hochberg 1995).

    Contrasts that share an arm depend on each other, which the proof does not cover; for two-sided comparisons between
    shared groups the rate is held in practice (Williams, Jones & Tukey 1999), and this project's tests simulate it.

    Raises:
        DataError: no p-value, or one outside 0..1.
    """
    if not p_values or not all(0 <= p <= 1 for p in p_values):
        raise DataError(f"{list(p_values)} are no p-values; give one or more between 0 and 1")
    return tuple(float(q) for q in stats.false_discovery_control(p_values, method="bh"))


def _sign_flips(n_families: int, seed: int) -> Float[np.ndarray, "flips families"]:
    """Rows of +1 and −1: all sign flips but the observed signs, or random ones of many families."""
    if n_families > MAX_ENUMERATED:
        bits = np.random.default_rng((seed, 3)).integers(0, 2, (N_DRAWS, n_families))
    else:
        bits = np.arange(1, 2**n_families)[:, None] >> np.arange(n_families) & 1
    return np.asarray(1.0 - 2.0 * bits)
