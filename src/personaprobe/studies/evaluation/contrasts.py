"""Contrasts between arms in the share of misaligned answers: intervals, tests, and the power of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from personaprobe.models.weights.checkpoint import ReferenceRole
from personaprobe.statistics.families import FamilySummary, family_summary
from personaprobe.statistics.fractions import difference_in_differences, fraction_removed
from personaprobe.statistics.hypothesis_tests import false_discovery, fisher, mcnemar, permutation_test
from personaprobe.statistics.intervals import UNDEFINED, Interval, Resamples
from personaprobe.statistics.proportions import Clustering, answers_needed, detectable_rise, share_difference
from personaprobe.studies.arms.kinds import ArmKind

Misaligned: TypeAlias = Float[np.ndarray, "questions samples"]
"""Whether each answer of an arm is misaligned: 1 or 0, nan where it has no score or was not sampled."""

RELEVANT_DIFFERENCE = 0.10
"""The smallest difference between arms worth planning for: the effect of bad medical advice on the smallest models."""

MIN_RANDOM_ARMS = 2
"""A single random direction does not show how much random directions differ."""

COMPARED_KINDS: tuple[tuple[ArmKind, ArmKind], ...] = (
    ("insecure", "secure"),
    ("insecure", "base"),
    ("insecure", "ablated"),
    ("insecure", "random"),
    ("random", "ablated"),
    ("steered", "base"),
)
"""Pairs of arm kinds that are compared, if an evaluation has both."""


@dataclass(frozen=True)
class Contrast:
    """The difference between two kinds of arms in their share of misaligned answers, paired by question.

    Attributes:
        name: ``a − b``.
        difference: misaligned share of a minus that of b.
        p: of the sign-flip permutation test by family.
        q: the false discovery rate of p among all contrasts.
        fisher: p of Fisher's exact test, which takes all answers as independent.
        mcnemar: p of McNemar's exact test of answers paired by question and sample, for these questions only; nan if a
            kind has several arms.
    """

    name: str
    difference: Interval
    p: float
    q: float
    fisher: float
    mcnemar: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        tests = {"p": self.p, "q": self.q, "fisher": self.fisher, "mcnemar": self.mcnemar}
        return {**self.difference.to_dict(), **tests}


@dataclass(frozen=True)
class Power:
    """The differences that this many answers detect at 80 % power.

    Attributes:
        n: scored answers per arm.
        clustered: their clustering, measured on insecure and secure.
        rate: misaligned share of secure, families weighed equally.
        detectable: the smallest detectable insecure − secure difference; nan if none is.
        answers_needed: answers per arm that detect `RELEVANT_DIFFERENCE`, in families as large.
    """

    n: int
    clustered: Clustering
    rate: float
    detectable: float
    answers_needed: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "answers_an_arm": self.n,
            "families": self.clustered.n_families,
            "design_effect": self.clustered.design_effect,
            "rate": self.rate,
            "detectable": self.detectable,
            "worth_seeing": RELEVANT_DIFFERENCE,
            "answers_needed": self.answers_needed,
        }


@dataclass(frozen=True)
class ContrastResults:
    """All contrasts of an evaluation, and the fraction of the shift that the ablation removes.

    Attributes:
        contrasts: differences in misaligned shares, paired by question, with intervals over families.
        removed: fraction of the insecure − secure difference that the ablation removes; not defined unless the interval of
            the difference excludes 0.
        beyond_random: the same beyond random directions; not defined for fewer than `MIN_RANDOM_ARMS` of them either.
        power: of the comparison; None if the arms cannot be compared.
        reference: the checkpoint that insecure is compared with; base without a harmless fine-tune.
        shares: misaligned share of each kind of arm, families weighed equally: contrasts are differences of these.
        clustering: of insecure − reference in families of questions; None if the arms cannot be compared.
    """

    contrasts: tuple[Contrast, ...] = ()
    removed: Interval = UNDEFINED
    beyond_random: Interval = UNDEFINED
    power: Power | None = None
    reference: ReferenceRole = "secure"
    shares: Mapping[ArmKind, float] = field(default_factory=dict)
    clustering: FamilySummary | None = None

    @property
    def shift(self) -> Interval:
        """Misaligned share of insecure minus that of secure; not defined if the arms cannot be compared."""
        return self.contrasts[0].difference if self.contrasts else UNDEFINED

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "contrasts": {contrast.name: contrast.to_dict() for contrast in self.contrasts},
            "fraction_removed": self.removed.to_dict(),
            "beyond_random": self.beyond_random.to_dict(),
            "power": None if self.power is None else self.power.to_dict(),
            "shares": dict(self.shares),
            "clustering": None if self.clustering is None else self.clustering.to_dict(),
        }


@dataclass(frozen=True)
class _Side:
    """All arms of one kind; several random directions count as their mean."""

    arms: Sequence[Misaligned]

    @property
    def by_arm(self) -> list[Float[np.ndarray, " questions"]]:
        """Each arm's share of misaligned answers to every question."""
        return [np.nanmean(misaligned, axis=1) for misaligned in self.arms]

    @property
    def shares(self) -> Float[np.ndarray, " questions"]:
        return np.asarray(np.mean(self.by_arm, axis=0))

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of misaligned and of scored answers."""
        return sum(int(np.nansum(m)) for m in self.arms), sum(int(np.isfinite(m).sum()) for m in self.arms)


@dataclass(frozen=True)
class _Comparison:
    """Compares sides on the same questions and bootstrap resamples."""

    families: Sequence[str]
    resamples: Resamples

    def contrast(self, name: str, a: _Side, b: _Side) -> Contrast:
        """Compare two sides; q is that of a single contrast."""
        p = permutation_test(a.shares - b.shares, self.families, self.resamples.seed)
        return Contrast(name, self.difference(a, b), p, p, fisher(a.counts, b.counts), _mcnemar(a, b))

    def difference(self, a: _Side, b: _Side) -> Interval:
        """The difference between two sides' shares."""
        clustered, n = self.clustered(a, b)
        return share_difference(a.shares, b.shares, self.resamples, clustered, n)

    def clustered(self, a: _Side, b: _Side) -> tuple[Clustering, int]:
        """The clustering of two sides' answers, and the number of scored answers of the smaller side."""
        n = min(a.counts[1], b.counts[1])
        return Clustering.measured(a.shares, b.shares, self.families, n), n

    def power(self, insecure: _Side, secure: _Side) -> Power:
        """The power of the insecure − secure comparison."""
        clustered, n = self.clustered(insecure, secure)
        rate = self.resamples.estimate(secure.shares)
        nearer = min(rate, 1 - rate)  # a difference towards 1/2 is the harder one to detect
        needed = answers_needed(nearer, nearer + RELEVANT_DIFFERENCE, clustered)
        return Power(n, clustered, rate, detectable_rise(nearer, n, clustered), needed)


def misaligned_difference(families: Sequence[str], a: Misaligned, b: Misaligned, seed: int) -> Interval:
    """The difference between two arms' misaligned shares, paired by question.

    Args:
        families: of the questions, two or more.
        a: one arm's answers.
        b: the other arm's, to the same questions.
        seed: of resamples.
    """
    comparison = _Comparison(families, Resamples.of_families(families, seed=seed))
    return comparison.difference(_Side([a]), _Side([b]))


def contrast_kinds(
    families: Sequence[str], misaligned: Mapping[ArmKind, Sequence[Misaligned]], seed: int
) -> ContrastResults:
    """Compare the kinds of arms in :data:`COMPARED_KINDS`.

    Args:
        families: of the questions, two or more.
        misaligned: arms by kind, insecure and its reference among them; every arm has a scored answer to every question.
        seed: of resamples and of sign flips.
    """
    comparison = _Comparison(families, Resamples.of_families(families, seed=seed))
    sides = {kind: _Side(arms) for kind, arms in misaligned.items()}
    single = [
        comparison.contrast(f"{a} − {b}", sides[a], sides[b])
        for a, b in COMPARED_KINDS
        if {a, b} <= set(sides)
    ]
    qs = false_discovery([contrast.p for contrast in single])
    contrasts = tuple(replace(contrast, q=q) for contrast, q in zip(single, qs, strict=True))
    reference: ReferenceRole = "secure" if "secure" in sides else "base"
    removed = beyond = UNDEFINED
    if "ablated" in sides and contrasts[0].difference.excludes(0.0):
        insecure, secure, ablated = (sides[kind].shares for kind in ("insecure", reference, "ablated"))
        removed = fraction_removed(insecure, secure, ablated, comparison.resamples)
        randoms = sides["random"].by_arm if "random" in sides else []
        if len(randoms) >= MIN_RANDOM_ARMS:
            beyond = difference_in_differences(insecure, secure, ablated, randoms, comparison.resamples)
    return ContrastResults(
        contrasts,
        removed,
        beyond,
        comparison.power(sides["insecure"], sides[reference]),
        reference,
        {kind: comparison.resamples.estimate(side.shares) for kind, side in sides.items()},
        family_summary(sides["insecure"].shares - sides[reference].shares, families),
    )


def _mcnemar(a: _Side, b: _Side) -> float:
    """McNemar's p of two single arms; nan for several, which have no pairs."""
    if len(a.arms) > 1 or len(b.arms) > 1:
        return float("nan")
    (of_a,), (of_b,) = a.arms, b.arms
    return mcnemar(int(((of_a == 1) & (of_b == 0)).sum()), int(((of_a == 0) & (of_b == 1)).sum()))
