"""Studies drawn from a model of the demo organism, without a language model: a feature beside matched controls.

All standard deviations over questions, and the correlations in families, are those that were measured on the organism. A
direction of no special meaning moves every question by about the same, and its own share of that does not follow the shift.
A feature that truly removes a share of the shift removes that share of each question's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np

from personaprobe.effects.verdict import Damage, Evidence
from personaprobe.statistics.families import family_summary
from personaprobe.statistics.fractions import (
    difference_in_differences,
    fraction_removed,
    random_fraction,
    share_of_shift,
)
from personaprobe.statistics.hypothesis_tests import rank_test
from personaprobe.statistics.intervals import UNDEFINED, Interval, Resamples, difference
from personaprobe.statistics.power import minimum_detectable, questions_needed

SHIFT, SHIFT_NOISE = 0.16, 0.10
"""Mean and standard deviation over questions of insecure − secure, nats per token."""

REMOVED_NOISE, CONTROL_NOISE, COMMON_NOISE = 0.105, 0.060, 0.024
"""Standard deviations over questions of that which the feature removes beside its share of the shift, of that which a
direction of no special meaning removes, and of the part that all such directions have in common; nats per token."""

ICC_SHIFT, ICC_REMOVED = 0.0, 0.06
"""Correlation of two questions of a family; −0.02 was measured for the shift."""

DISCOVERY_NOISE = 0.08
"""Standard deviation of a share removed as discovery questions measure it."""

N_CONTROLS = 39
UNHARMED = Interval(1.0, 1.0, 1.0)
Draws: TypeAlias = Callable[[np.random.Generator, int], np.ndarray]
"""Draws so many true shares removed by directions of no special meaning."""


def normal(mean: float, spread: float) -> Draws:
    """Directions whose shares are normally distributed."""
    return lambda rng, n: rng.normal(mean, spread, n)


def like_latents(rng: np.random.Generator, n: int) -> np.ndarray:
    """The mixture that matched latents showed: most harm, and one in five removes half."""
    return rng.choice([-0.28, -0.35, 0.48, -0.24, -0.21], n) + rng.normal(0, 0.02, n)


NULLS: Mapping[str, Draws] = {
    "normal(−0.10, 0.08)": normal(-0.10, 0.08),
    "normal(0.03, 0.08)": normal(0.03, 0.08),
    "normal(0, 0.2)": normal(0.0, 0.2),
    "mixture like the latents": like_latents,
}
"""Distributions of the shares that directions of no special meaning remove."""


@dataclass(frozen=True)
class Layout:
    """The questions of a study.

    Attributes:
        n_families: families of questions.
        n_each: questions of each.
        n_control_questions: the first so many questions, with families in turn, which controls answer.
        icc: of the shift and of the removal; None for those that were measured.
    """

    n_families: int = 12
    n_each: int = 10
    n_control_questions: int = 24
    icc: float | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """The family of each question, families in turn."""
        return tuple(f"family {f:02d}" for _ in range(self.n_each) for f in range(self.n_families))

    def noise(self, rng: np.random.Generator, icc: float, n: int) -> np.ndarray:
        """Standard normal noise of the first `n` questions, correlated in families."""
        icc = icc if self.icc is None else self.icc
        shared = np.resize(rng.normal(size=self.n_families), n)
        return np.asarray(np.sqrt(icc) * shared + np.sqrt(1 - icc) * rng.normal(size=n))

    def resamples(self, n: int) -> Resamples:
        """Resamples of the first `n` questions."""
        return _resamples(self.families[:n])


@cache
def _resamples(families: tuple[str, ...]) -> Resamples:
    return Resamples.of_families(families, n=2000)


@dataclass(frozen=True)
class PlantedStudy:
    """A study with the truth about it.

    Attributes:
        evidence: as the package estimates it.
        removed: the share of the shift that the feature truly removes.
        beyond: the share that it truly removes beyond one more direction, or beyond the best of as many as it was chosen
            from.
    """

    evidence: Evidence
    removed: float
    beyond: float


def chosen_share(rng: np.random.Generator, null: Draws, candidates: int) -> float:
    """The true share of the direction that is best on discovery questions."""
    shares = null(rng, candidates)
    return float(shares[np.argmax(shares + DISCOVERY_NOISE * rng.normal(size=candidates))])


def planted_study(
    rng: np.random.Generator, null: Draws, candidates: int, layout: Layout, removed: float | None = None
) -> PlantedStudy:
    """Draw a study and estimate its evidence.

    Args:
        rng: of all draws.
        null: the shares of directions of no special meaning.
        candidates: the feature was chosen from so many on discovery, and so was one control.
        layout: of the questions.
        removed: the share that the feature truly removes; None: it is one of those directions.
    """
    share = chosen_share(rng, null, candidates) if removed is None else removed
    families = layout.families
    n, m = len(families), layout.n_control_questions
    shift = SHIFT + SHIFT_NOISE * layout.noise(rng, ICC_SHIFT, n)

    common = COMMON_NOISE * layout.noise(rng, 0.0, n)

    def of_control(true: float, n: int) -> np.ndarray:
        return true * SHIFT + common[:n] + CONTROL_NOISE * layout.noise(rng, ICC_REMOVED, n)

    secure = rng.normal(-0.3, 0.3, n)
    insecure, feature = secure + shift, of_control(share, n)
    if removed is not None:
        feature = removed * shift + REMOVED_NOISE * layout.noise(rng, ICC_REMOVED, n)
    controls = [of_control(true, m) for true in null(rng, N_CONTROLS)]
    selected = of_control(chosen_share(rng, null, candidates), m) if candidates > 1 else None
    whole, part = layout.resamples(n), layout.resamples(m)
    a, b = insecure[:m], secure[:m]
    treated = [a - control for control in controls]
    evidence = Evidence(
        shift=difference(insecure, secure, whole),
        fraction_removed=fraction_removed(insecure, secure, insecure - feature, whole),
        random_fraction_removed=random_fraction(a, b, treated, part),
        over_random=difference_in_differences(a, b, a - feature[:m], treated, part, candidates),
        over_selected=UNDEFINED
        if selected is None
        else share_of_shift(feature[:m] - selected, shift[:m], part),
        damage=Damage(UNHARMED, UNHARMED.scaled(0.01), UNHARMED.scaled(0.01), UNHARMED),
        detectable_shift=minimum_detectable(shift, families),
        questions_needed=questions_needed(0.1, shift, families),
        n_questions=n,
        n_families=layout.n_families,
        n_controls=N_CONTROLS,
        rank=rank_test(part.estimate(feature[:m]), [part.estimate(control) for control in controls]),
        clustering=family_summary(feature, families),
        candidates=candidates,
    )
    return PlantedStudy(evidence, share, share - float(null(rng, candidates).max()))
