"""The measurements of a study, from which its verdict follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.effects.measures.coherence import CoherenceRule
from personaprobe.models.weights.checkpoint import ReferenceRole
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.intervals import Resamples
from personaprobe.studies.ablation.result import DosePoint
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.evaluation.result import Evaluation

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

Questions: TypeAlias = "Float[np.ndarray, ' question']"
"""One number a question, in the order of the test questions."""


@dataclass(frozen=True)
class FurtherQuestions:
    """Preference on questions beside the test questions; the verdict's rules do not read it.

    Attributes:
        questions: a set of their own.
        gaps: of insecure, the checkpoints it is compared with, and insecure with the feature ablated.
        control_gaps: of insecure with some of the deciding controls ablated.
    """

    questions: PairSet
    gaps: Mapping[ArmKind, tuple[float, ...]]
    control_gaps: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class StudyMeasurements:
    """All that a study measured, from which its verdict follows.

    Attributes:
        plan: of the study.
        feature: name, source, site, layers and calibration of the feature, as plain data.
        arms: all of them; each answered the first so many of the test questions.
        doses: dose–response, which is shown and decides nothing.
        narrow: preference on the narrow task; None where none is known.
        balanced: preference on questions whose answers a bag of words cannot tell apart; None where there are none.
        candidates: how many candidates the feature was chosen from on discovery.
        judged: a judge's scores of the sampled answers; None where no judge scored them.
    """

    plan: StudyPlan
    feature: Mapping[str, Any]
    arms: Sequence[ArmResult]
    doses: Sequence[DosePoint]
    narrow: FurtherQuestions | None
    balanced: FurtherQuestions | None
    candidates: int = 1
    judged: Evaluation | None = None

    @cached_property
    def coherence_rule(self) -> CoherenceRule:
        """The rule that the untreated insecure model's own answers set."""
        return CoherenceRule.from_untreated(first_of(self.arms, "insecure").responses)

    def resamples(self, n: int) -> Resamples:
        """Resamples of the first ``n`` test questions."""
        return self._resamples_of(n)

    @cached_property
    def _resamples_of(self) -> Callable[[int], Resamples]:
        families, seed = self.plan.test.families, self.plan.seed
        return cache(lambda n: Resamples.of_families(families[:n], seed=seed))


def first_of(arms: Sequence[ArmResult], kind: str) -> ArmResult:
    """The first arm of a kind, or of a name; the untreated checkpoints are named by their role."""
    return next(arm for arm in arms if kind in (arm.kind, arm.name))


def reference_arms(arms: Sequence[ArmResult]) -> list[ArmResult]:
    """The untreated checkpoints that insecure is compared with: every harmless fine-tune, or base where there is none."""
    secures = [arm for arm in arms if arm.kind in ("secure", "further secure")]
    return secures or [first_of(arms, "base")]


def reference_role(arms: Sequence[ArmResult]) -> ReferenceRole:
    """The role of these checkpoints."""
    return "base" if reference_arms(arms)[0].kind == "base" else "secure"


def reference_gaps(arms: Sequence[ArmResult]) -> Float[np.ndarray, " question"]:
    """The preference gaps that the shift is taken from: the mean over the checkpoints that insecure is compared with."""
    import numpy as np

    return np.asarray(np.mean([gaps_of(arm) for arm in reference_arms(arms)], axis=0))


def gaps_of(arm: ArmResult) -> Float[np.ndarray, " question"]:
    """An arm's preference gaps, in the order of the test questions."""
    import numpy as np

    return np.asarray(arm.gaps)
