"""Dose–response: how the effect and the damage grow with the coefficient of an intervention. It selects nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from personaprobe.effects.interventions.along_direction import Intervention
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.statistics.intervals import estimate_from_part
from personaprobe.studies.ablation.result import DosePoint
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.arms.measurement import ArmRunner, measure_damage, measure_gaps
from personaprobe.studies.arms.treatment import Treatment

QUESTIONS = 12
TEXTS = 4
ABLATION_COEFFICIENTS = (0.5, 1.5, 2.0)
STEERING_COEFFICIENTS = (0.5, 2.0)
"""Beside 0 and 1, at which the study's own arms stand."""

ARMS: Mapping[tuple[str, float], ArmKind] = {
    ("ablate insecure", 0.0): "insecure",
    ("ablate insecure", 1.0): "ablated",
    ("steer base", 0.0): "base",
    ("steer base", 1.0): "steered",
}


def dose_response(
    trio: Trio[LanguageModel], treatment: Treatment, runner: ArmRunner, measured: Sequence[ArmResult]
) -> tuple[DosePoint, ...]:
    """Measure further coefficients on a part of the test questions, beside those of the study's own arms.

    Args:
        trio: loaded.
        treatment: the feature's ablation and steering.
        runner: of the study.
        measured: the study's arms, with their gaps on all test questions.
    """
    by_kind = {arm.kind: arm for arm in measured}
    known = [
        _known(name, coefficient, by_kind[kind], by_kind[ARMS[name, 0.0]])
        for (name, coefficient), kind in ARMS.items()
        if kind in by_kind
    ]
    untreated = {name: by_kind[ARMS[name, 0.0]].gaps for name, _ in ARMS}
    further = _further(_dosed(trio, treatment), trio, runner, untreated)
    return tuple(sorted([*known, *further], key=lambda point: (point.intervention, point.coefficient)))


def _known(name: str, coefficient: float, arm: ArmResult, untreated: ArmResult) -> DosePoint:
    gap = estimate_from_part(arm.gaps, untreated.gaps)
    return DosePoint(name, coefficient, gap, arm.perplexity / untreated.perplexity)


@dataclass(frozen=True)
class _Dosed:
    """An intervention on one checkpoint, at one coefficient that no arm of the study has."""

    name: str
    coefficient: float
    role: str
    intervention: Intervention

    def arm(self, trio: Trio[LanguageModel]) -> Arm:
        name = f"{self.name} × {self.coefficient}"
        return Arm(name, ARMS[self.name, 1.0], trio[self.role], (self.intervention,))


def _dosed(trio: Trio[LanguageModel], treatment: Treatment) -> list[_Dosed]:
    ablations = [
        _Dosed("ablate insecure", x, "insecure", treatment.ablation(x)) for x in ABLATION_COEFFICIENTS
    ]
    pushes = [(x, treatment.steering(x)) for x in STEERING_COEFFICIENTS]
    return ablations + [_Dosed("steer base", x, "base", push) for x, push in pushes if push is not None]


def _further(
    dosed: Sequence[_Dosed],
    trio: Trio[LanguageModel],
    runner: ArmRunner,
    untreated: Mapping[str, Sequence[float]],
) -> list[DosePoint]:
    plan, run = runner.plan, runner.run
    gaps = measure_gaps([dose.arm(trio) for dose in dosed], plan.test.first(QUESTIONS), run)
    texts, ratios = plan.neutral.first(TEXTS), []
    for role in dict.fromkeys(dose.role for dose in dosed):
        arms = [dose.arm(trio) for dose in dosed if dose.role == role]
        plain = next(arm for arm in untreated_arms(trio) if arm.name == role)
        first, *others = measure_damage([plain, *arms], texts, run, first_tokens=plan.first_tokens)
        ratios += [cost.perplexity / first.perplexity for cost in others]
    return [
        DosePoint(dose.name, dose.coefficient, estimate_from_part(measured.gaps, untreated[dose.name]), ratio)
        for dose, measured, ratio in zip(dosed, gaps, ratios, strict=True)
    ]


def with_coherence(doses: Sequence[DosePoint], shares: Mapping[ArmKind, float]) -> tuple[DosePoint, ...]:
    """Fill in the share of coherent answers at the points that are arms, whose answers were sampled."""
    return tuple(
        replace(dose, coherence=shares[ARMS[dose.intervention, dose.coefficient]])
        if (dose.intervention, dose.coefficient) in ARMS
        else dose
        for dose in doses
    )
