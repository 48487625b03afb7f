"""Could it be chance? Exact and permutation tests of judged answers, and the false discoveries among several tests.

All p-values are two-sided. What each test takes for chance differs, and so does what it may be quoted for:

====================  ========================================  =====================================================
test                  nothing happens means                     speaks of
====================  ========================================  =====================================================
`fisher`              two rates of independent answers agree    answers without clusters; the one published tables give
`mcnemar`             no question is answered otherwise         these questions alone
`permutation`         a family's difference may as well turn    other families of questions too; rests on the fewest
                      its sign                                  assumptions, and takes `LEAST_FAMILIES` families
====================  ========================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics.intervals import Values

LEAST_FAMILIES = 6
"""Sign flips of fewer families have no p below 0.05: all signs alike come up 2 times in 2^5 = 32."""

ENUMERATED = 12
"""Up to so many families, all 2^12 sign flips are gone through; beyond, they are drawn."""

DRAWS = 9999
"""Sign flips drawn beyond that; with the untouched one they make 10000."""


def fisher(a: tuple[int, int], b: tuple[int, int]) -> float:
    """How often two independent rates would differ so much by chance: Fisher's exact test.

    Boschloo's and Barnard's tests have more power, but maximise over an unknown rate by numerical search (seconds for
    a few hundred answers). Fisher's holds its level at any rate without one, errs towards no difference, and is the
    one that published tables quote.

    Args:
        a: how many answers of one arm are misaligned, and of how many.
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
    """How often paired answers would part so unevenly by chance: McNemar's test, exact.

    A pair whose answers differ is as likely to differ either way, so the discordant pairs are coin tosses. Families
    need no correction as long as nothing is claimed of other questions. Without a discordant pair p is 1.

    Args:
        only_a: pairs in which the first arm's answer alone is misaligned.
        only_b: pairs in which the second's alone is.

    Raises:
        DataError: a negative count.
    """
    if min(only_a, only_b) < 0:
        raise DataError(f"{only_a} and {only_b} discordant pairs were counted; give numbers of at least 0")
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def permutation(differences: Values, families: Sequence[str], seed: int = 0) -> float:
    """How often chance would give so large a mean difference, if each family's might as well have the other sign.

    The sign is turned family by family (Fisher 1935, chapter 3), so that nothing is assumed of questions of the same
    family. All flips are enumerated for up to `ENUMERATED` families; beyond, `DRAWS` are drawn and the flip that was
    seen is counted as one more, which makes the test exact all the same (Phipson & Smyth 2010).

    Args:
        differences: one arm minus another, (n_questions,).
        families: of the questions.
        seed: of the flips that are drawn.

    Raises:
        DataError: values that are not one finite number for each family's entry.
    """
    checked = np.asarray(differences, dtype=float)
    if checked.shape != (len(families),) or not len(families) or not np.isfinite(checked).all():
        came = f"differences of shape {checked.shape} came for {len(families)} families' entries"
        raise DataError(f"{came}; give one finite number for each question")
    _, codes = np.unique(np.asarray(families, dtype=str), return_inverse=True)
    sums = np.bincount(codes, weights=checked)
    flipped = np.abs(_signs(len(sums), seed) @ sums)
    reach = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()  # equal but for the order of adding
    extreme = int((flipped >= reach).sum())
    drawn = int(len(sums) > ENUMERATED)
    return (extreme + drawn) / (len(flipped) + drawn)


def false_discovery(p_values: Sequence[float]) -> tuple[float, ...]:
    """The q-values of several tests: the share of false ones among all with a q as small (Benjamini & Hochberg 1995).

    Contrasts that share an arm depend on each other, which the proof does not cover; for two-sided comparisons between
    shared groups the rate is held in practice (Williams, Jones & Tukey 1999), and the tests here simulate it.

    Raises:
        DataError: no p-value, or one outside 0..1.
    """
    if not p_values or not all(0 <= p <= 1 for p in p_values):
        raise DataError(f"{list(p_values)} are no p-values; give one or more between 0 and 1")
    return tuple(float(q) for q in stats.false_discovery_control(p_values, method="bh"))


def _signs(n_families: int, seed: int) -> Float[np.ndarray, "flips families"]:
    """All flips of few families, draws for many; each row is +1 or −1 for every family."""
    if n_families > ENUMERATED:
        bits = np.random.default_rng((seed, 3)).integers(0, 2, (DRAWS, n_families))
    else:
        bits = np.arange(2**n_families)[:, None] >> np.arange(n_families) & 1
    return np.asarray(1.0 - 2.0 * bits)
