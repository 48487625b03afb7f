"""Dose–response: how the effect and the damage grow with the strength of the intervention. It selects nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from personaprobe.effects.interventions.along_direction import Intervention
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.intervals import estimate_from_part
from personaprobe.studies.ablation.result import ArmResult, DosePoint
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.arms.measurement import Bench
from personaprobe.studies.arms.treatment import Treatment, steering

QUESTIONS = 12
TEXTS = 4
ABLATION_DOSES = (0.5, 1.5, 2.0)
STEERING_DOSES = (0.5, 2.0)
"""Beside 0 and 1, which the study's arms are."""

ARMS: Mapping[tuple[str, float], ArmKind] = {
    ("ablate insecure", 0.0): "insecure",
    ("ablate insecure", 1.0): "ablated",
    ("steer base", 0.0): "base",
    ("steer base", 1.0): "steered",
}


def dose_response(
    trio: Trio[LanguageModel], treated: Treatment, bench: Bench, measured: Sequence[ArmResult]
) -> tuple[DosePoint, ...]:
    """Measure further strengths on a part of the test questions, beside those the arms already are.

    Args:
        trio: loaded.
        treated: the feature's ablation.
        bench: where arms are measured.
        measured: the study's arms, with their gaps on all test questions.
    """
    asked = bench.plan.test.spread(QUESTIONS)
    by_kind = {arm.kind: arm for arm in measured}
    known = [
        _known(name, amount, by_kind[kind], by_kind[ARMS[name, 0.0]]) for (name, amount), kind in ARMS.items()
    ]
    untreated = {name: by_kind[ARMS[name, 0.0]].gaps for name, _ in ARMS}
    further = _further(trio, treated, bench, asked, untreated)
    return tuple(sorted([*known, *further], key=lambda p: (p.intervention, p.amount)))


def _known(name: str, amount: float, arm: ArmResult, untreated: ArmResult) -> DosePoint:
    return DosePoint(
        name, amount, estimate_from_part(arm.gaps, untreated.gaps), arm.perplexity / untreated.perplexity
    )


def _further(
    trio: Trio[LanguageModel],
    treated: Treatment,
    bench: Bench,
    asked: PairSet,
    untreated: Mapping[str, Sequence[float]],
) -> list[DosePoint]:
    dosed: list[tuple[str, float, LanguageModel, Intervention]] = [
        *(("ablate insecure", x, trio.insecure, treated.ablation(x)) for x in ABLATION_DOSES),
        *(("steer base", x, trio.base, steering(treated, x)) for x in STEERING_DOSES),
    ]
    arms = [Arm(f"{name} × {x}", ARMS[name, 1.0], model, (edit,)) for name, x, model, edit in dosed]
    plain = {role: Arm(role, role, trio[role]) for role in ("insecure", "base")}
    texts = bench.plan.neutral.first(TEXTS)
    gaps = bench.gaps(arms, asked)
    costs = bench.costs([plain["insecure"], *arms[: len(ABLATION_DOSES)]], texts)
    costs_of_base = bench.costs([plain["base"], *arms[len(ABLATION_DOSES) :]], texts)
    ratios = [cost.perplexity / group[0].perplexity for group in (costs, costs_of_base) for cost in group[1:]]
    return [
        DosePoint(name, x, estimate_from_part(part["gaps"], untreated[name]), ratio)
        for (name, x, _, _), part, ratio in zip(dosed, gaps, ratios, strict=True)
    ]


def with_coherence(doses: Sequence[DosePoint], shares: Mapping[ArmKind, float]) -> tuple[DosePoint, ...]:
    """Fill in the share of coherent answers at the doses that are arms, whose answers were sampled."""
    return tuple(
        replace(dose, coherence=shares[ARMS[dose.intervention, dose.amount]])
        if (dose.intervention, dose.amount) in ARMS
        else dose
        for dose in doses
    )
