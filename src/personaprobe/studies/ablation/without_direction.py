"""A study without a direction: the checkpoints do not differ where the feature, or a control, is computed.

Where their answers do not differ either, there is no effect to remove, and the verdict says so. Where they do, the feature
was looked for in the wrong place, which is an error.
"""

from __future__ import annotations

from typing import Any

from personaprobe.effects.targets.feature import Feature
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.statistics.intervals import Resamples, difference
from personaprobe.studies.ablation.measurements import StudyMeasurements
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.measurement import ArmRunner, measure_gaps


def shows_shift(trio: Trio[LanguageModel], runner: ArmRunner) -> bool:
    """Whether insecure is more careless than its reference: whether the interval of the shift lies above 0."""
    import numpy as np

    plan = runner.plan
    arms = untreated_arms(trio)
    gaps = {
        arm.role: of.gaps for arm, of in zip(arms, measure_gaps(arms, plan.test, runner.run), strict=True)
    }
    reference = np.mean([gaps[role] for role in trio.reference_roles], axis=0)
    resamples = Resamples.of_families(plan.test.families, seed=plan.seed)
    return difference(gaps["insecure"], reference, resamples).low > 0


def measure_without_direction(
    trio: Trio[LanguageModel], feature: Feature, runner: ArmRunner
) -> StudyMeasurements:
    """Measure the checkpoints, and insecure once more as the ablated model: an ablation of nothing changes nothing."""
    ablated = Arm("insecure, ablated", "ablated", trio.insecure)
    measured = runner.measure([*untreated_arms(trio), ablated])
    return StudyMeasurements(runner.plan, _describe(feature), measured, (), None, None)


def _describe(feature: Feature) -> dict[str, Any]:
    """A feature that was not found, as plain data."""
    return {
        "name": feature.name,
        "title": feature.title,
        "hook_name": feature.target.site.to_transformer_lens(),
        "source": feature.name,
        "site": str(feature.target.site),
        "layers": [],
        "evidence": feature.evidence,
    }
