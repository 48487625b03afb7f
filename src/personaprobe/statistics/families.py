"""Families of questions: their means, which estimates weigh equally, and how much they cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

from personaprobe.errors import DataError

Values: TypeAlias = np.ndarray | Sequence[float]
"""One number per question, in the order of the questions."""


@dataclass(frozen=True)
class FamilySummary:
    """How much the questions of a family resemble each other, and how many questions moved against the rest.

    Attributes:
        n_questions: questions.
        n_families: their families, which the estimate weighs equally.
        effective_families: number of equally precise families that estimate as well: (sum of v)^2 / sum of v^2, where v is
            the variance of a family's mean. It equals the number of families where all have equally many questions.
        icc: correlation of two questions of a family, by one-way analysis of variance; negative estimates count as 0.
        design_effect: factor by which clustering multiplies the variance of the mean, 1 + (m − 1) · icc.
        wrong_way: share of questions whose difference is below 0.
    """

    n_questions: int
    n_families: int
    effective_families: float
    icc: float
    design_effect: float
    wrong_way: float

    def to_dict(self) -> dict[str, float]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        families = f"{self.n_families} families ({self.effective_families:.1f} effective)"
        return f"{self.n_questions} questions of {families}, design effect {self.design_effect:.2f}"


def family_codes(families: Sequence[str]) -> tuple[Int[np.ndarray, " questions"], int]:
    """Each question's family as an integer code in the order of names, and the number of families.

    Raises:
        DataError: fewer than two families.
    """
    names, codes = np.unique(np.asarray(families, dtype=str), return_inverse=True)
    if len(names) < 2:
        given = f"{len(families)} questions of {len(names)} families"
        raise DataError(f"{given}: intervals resample families; give 2 or more, better 10")
    return codes, len(names)


def finite(values: Values, length: int) -> Float[np.ndarray, " values"]:
    """The values as an array of `length` finite numbers.

    Raises:
        DataError: another number of values, or one that is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.shape != (length,):
        raise DataError(f"values of shape {array.shape} came for {length}; give one for each, in their order")
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        given = f"value {array[wrong[0]]} at position {wrong[0]}"
        raise DataError(f"{given} is not finite; leave it out of every arm, and out of the families")
    return array


def family_summary(differences: Values, families: Sequence[str]) -> FamilySummary:
    """Summarise how paired differences cluster in families (one-way analysis of variance, Donner & Klar 2000).

    Args:
        differences: of every question, such as insecure − ablated; those below 0 moved the wrong way.
        families: the family of each question, two or more.

    Raises:
        DataError: fewer than two families, or differences that are not one finite number per question.
    """
    codes, n_families = family_codes(families)
    checked, sizes = finite(differences, len(codes)), np.bincount(codes)
    between, within = _variance_components(checked, codes, sizes)
    total = between + within
    icc = between / total if total else 0.0
    size = float((sizes**2).sum()) / len(checked)
    variances = between + within / sizes
    effective = variances.sum() ** 2 / (variances**2).sum() if total else float(n_families)
    return FamilySummary(
        n_questions=len(checked),
        n_families=n_families,
        effective_families=float(effective),
        icc=icc,
        design_effect=1 + (size - 1) * icc,
        wrong_way=float((checked < 0).mean()),
    )


def _variance_components(values: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The variance between families and that within them; the moment estimates of one-way analysis of variance."""
    n, n_families = len(values), len(sizes)
    means = np.bincount(codes, weights=values) / sizes
    within = float(((values - means[codes]) ** 2).sum()) / max(n - n_families, 1)
    among = float((sizes * (means - values.mean()) ** 2).sum()) / (n_families - 1)
    size = (n - float((sizes**2).sum()) / n) / (n_families - 1)
    return max(0.0, (among - within) / size), within
