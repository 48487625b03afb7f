"""Ratios of two sums over clustered observations, such as nats per token over texts of different lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from personaprobe.errors import DataError
from personaprobe.statistics.families import Values
from personaprobe.statistics.intervals import UNDEFINED, Interval


def ratio_of_sums(
    numerators: Values, denominators: Values, families: Sequence[str] | None = None
) -> Interval:
    """The ratio of two sums with its 95 % interval (ratio estimator, Cochran 1977, chapter 6).

    The standard error is that of the linearised ratio over families, with Student's t for one family fewer. One family
    alone shows no spread, so that its interval has no ends. Where all families agree the interval has no width.

    Args:
        numerators: one number per observation.
        denominators: of at least 0, such as numbers of tokens; not all 0.
        families: observations of a family may depend on each other; None: each is its own family.

    Raises:
        DataError: numbers that are not one finite one per observation, or a negative denominator.
    """
    top, bottom = (np.asarray(values, dtype=float) for values in (numerators, denominators))
    if (
        top.shape != bottom.shape
        or top.ndim != 1
        or not np.isfinite([top, bottom]).all()
        or (bottom < 0).any()
    ):
        given = f"numerators of shape {top.shape} over denominators of shape {bottom.shape}"
        raise DataError(
            f"{given}; give one finite number of each per observation, denominators of at least 0"
        )
    if not bottom.sum():
        return UNDEFINED
    labels = list(map(str, range(len(top)))) if families is None else families
    _, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    ratio = float(top.sum() / bottom.sum())
    residuals = np.bincount(codes, weights=top - ratio * bottom)
    n = len(residuals)
    if n < 2:
        return Interval(ratio, -math.inf, math.inf)
    error = math.sqrt(n / (n - 1) * float((residuals**2).sum())) / float(bottom.sum())
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return Interval(ratio, ratio - reach, ratio + reach)
