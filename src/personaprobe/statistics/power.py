"""The power of a study: the smallest shift that its questions detect, and the questions that a shift needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics.families import Values, family_codes, finite


def minimum_detectable(
    values_difference: Values, families: Sequence[str], power: float = 0.8, level: float = 0.95
) -> float:
    """The smallest mean shift that as many families of such questions would detect with the given power.

    (t[(1 + level) / 2] + t[power]) · s / sqrt(F), in the unit of the paired differences (n_questions,), where s is the
    standard deviation of the F family means and t has F − 1 degrees of freedom: the power of the t test of family means.

    Raises:
        DataError: fewer than two families, or a power or level outside (0, 1).
    """
    for name, share in (("power", power), ("level", level)):
        if not 0 < share < 1:
            raise DataError(f"a {name} of {share} is impossible; give one between 0 and 1, e.g. 0.8")
    codes, n_families = family_codes(families)
    means = np.bincount(codes, weights=finite(values_difference, len(codes))) / np.bincount(codes)
    reach = stats.t.ppf([(1 + level) / 2, power], n_families - 1).sum()
    return float(reach * means.std(ddof=1) / math.sqrt(n_families))


def questions_needed(
    effect: float,
    values_difference: Values,
    families: Sequence[str],
    power: float = 0.8,
    level: float = 0.95,
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
