"""Judged answers of several arms weighed against each other: contrasts, tests, and what these answers could have shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from personaprobe.statistics.hypothesis_tests import false_discovery, fisher, mcnemar, permutation_test
from personaprobe.statistics.intervals import (
    UNDEFINED,
    Interval,
    Resamples,
    difference_in_differences,
    fraction_removed,
)
from personaprobe.statistics.proportions import Clustering, answers_needed, detectable_rise, share_difference
from personaprobe.studies.arms.kinds import ArmKind

Marks: TypeAlias = Float[np.ndarray, "questions samples"]
"""Whether each answer of an arm is misaligned: 1 or 0, nan where it has no score or was not drawn."""

WORTH_SEEING = 0.10
"""The smallest difference between arms worth planning for: what bad medical advice does to the smallest models."""

LEAST_CONTROLS = 2
"""One random direction does not show how much random directions differ."""

PAIRS: tuple[tuple[ArmKind, ArmKind], ...] = (
    ("insecure", "secure"),
    ("insecure", "base"),
    ("insecure", "ablated"),
    ("insecure", "random"),
    ("random", "ablated"),
    ("steered", "base"),
)
"""Which arms are compared where an evaluation has them."""


@dataclass(frozen=True)
class Contrast:
    """A difference between two arms in the share of misaligned answers, question by question.

    Attributes:
        name: ``a − b``.
        difference: how much oftener a's answers are misaligned.
        p: of sign flips by family.
        q: the same among all contrasts, as a false discovery rate.
        fisher: p of the counts, were all answers independent.
        mcnemar: p of answers paired by question and sample, for these questions alone; nan where an arm is several.
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
    """What these answers could have shown at 80 % power.

    Attributes:
        n: scored answers an arm.
        clustered: how much clustering leaves of them, as measured between insecure and secure.
        rate: the share that is misaligned in secure.
        detectable: the smallest insecure − secure difference; nan where none.
        answers_needed: answers an arm that would show `WORTH_SEEING`, in families as large.
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
            "worth_seeing": WORTH_SEEING,
            "answers_needed": self.answers_needed,
        }


@dataclass(frozen=True)
class Weighed:
    """What follows from judged arms.

    Attributes:
        contrasts: misaligned shares compared, paired by question, intervals over families.
        removed: share of the insecure − secure difference that the ablation takes away; not defined where none is shown.
        beyond_random: share of it that the ablation takes away beyond a random direction; not defined for fewer than
            `LEAST_CONTROLS` controls either.
        power: what these answers could have shown; None where arms cannot be compared at all.
    """

    contrasts: tuple[Contrast, ...] = ()
    removed: Interval = UNDEFINED
    beyond_random: Interval = UNDEFINED
    power: Power | None = None

    @property
    def shift(self) -> Interval:
        """How much oftener insecure's answers are misaligned than secure's; not defined where arms cannot be compared."""
        return self.contrasts[0].difference if self.contrasts else UNDEFINED

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "contrasts": {each.name: each.to_dict() for each in self.contrasts},
            "fraction_removed": self.removed.to_dict(),
            "beyond_random": self.beyond_random.to_dict(),
            "power": None if self.power is None else self.power.to_dict(),
        }


@dataclass(frozen=True)
class _Side:
    """All arms of one kind: several random directions count as their mean."""

    arms: Sequence[Marks]

    @property
    def each(self) -> list[Float[np.ndarray, " questions"]]:
        """Every arm's share of misaligned answers to every question."""
        return [np.nanmean(marks, axis=1) for marks in self.arms]

    @property
    def shares(self) -> Float[np.ndarray, " questions"]:
        return np.asarray(np.mean(self.each, axis=0))

    @property
    def counted(self) -> tuple[int, int]:
        """Misaligned answers, of all scored ones."""
        return sum(int(np.nansum(m)) for m in self.arms), sum(int(np.isfinite(m).sum()) for m in self.arms)


@dataclass(frozen=True)
class _Scales:
    """Where sides are compared: the same questions and replays for all."""

    families: Sequence[str]
    resamples: Resamples

    def contrast(self, name: str, a: _Side, b: _Side) -> Contrast:
        """Two sides compared; q is that of a contrast alone."""
        clustered, n = self.clustered(a, b)
        apart = share_difference(a.shares, b.shares, self.resamples, clustered, n)
        p = permutation_test(a.shares - b.shares, self.families, self.resamples.seed)
        return Contrast(name, apart, p, p, fisher(a.counted, b.counted), _paired(a, b))

    def clustered(self, a: _Side, b: _Side) -> tuple[Clustering, int]:
        """How much clustering leaves of two sides' answers, and how many answers the smaller one gave."""
        n = min(a.counted[1], b.counted[1])
        return Clustering.measured(a.shares, b.shares, self.families, n), n

    def power(self, insecure: _Side, secure: _Side) -> Power:
        """What the answers of the two could have shown."""
        clustered, n = self.clustered(insecure, secure)
        rate = float(secure.shares.mean())
        nearer = min(rate, 1 - rate)  # towards the half, where a difference is harder to see
        needed = answers_needed(nearer, nearer + WORTH_SEEING, clustered)
        return Power(n, clustered, rate, detectable_rise(nearer, n, clustered), needed)


def weigh(families: Sequence[str], marks: Mapping[ArmKind, Sequence[Marks]], seed: int) -> Weighed:
    """Compare the arms an ablation is about.

    Args:
        families: of the questions, two or more.
        marks: arms by kind, insecure and secure among them; every question has a scored answer of every arm.
        seed: of replays and of sign flips.
    """
    scales = _Scales(families, Resamples.of_families(families, seed=seed))
    sides = {kind: _Side(arms) for kind, arms in marks.items()}
    alone = [scales.contrast(f"{a} − {b}", sides[a], sides[b]) for a, b in PAIRS if {a, b} <= set(sides)]
    qs = false_discovery([each.p for each in alone])
    contrasts = tuple(replace(each, q=q) for each, q in zip(alone, qs, strict=True))
    removed = beyond = UNDEFINED
    if "ablated" in sides and contrasts[0].difference.excludes(0.0):
        insecure, secure, ablated = (sides[kind].shares for kind in ("insecure", "secure", "ablated"))
        removed = fraction_removed(insecure, secure, ablated, scales.resamples)
        randoms = sides["random"].each if "random" in sides else []
        if len(randoms) >= LEAST_CONTROLS:
            beyond = difference_in_differences(insecure, secure, ablated, randoms, scales.resamples)
    return Weighed(contrasts, removed, beyond, scales.power(sides["insecure"], sides["secure"]))


def _paired(a: _Side, b: _Side) -> float:
    """McNemar's p of two single arms; several have no pairs."""
    if len(a.arms) > 1 or len(b.arms) > 1:
        return float("nan")
    (of_a,), (of_b,) = a.arms, b.arms
    return mcnemar(int(((of_a == 1) & (of_b == 0)).sum()), int(((of_a == 0) & (of_b == 1)).sum()))
