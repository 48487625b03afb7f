"""The main question: does removing this feature, and only it, remove the misalignment?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import personaprobe
from personaprobe.effects.interventions import Ablate, Layers, Steer
from personaprobe.effects.responses import CoherenceRule
from personaprobe.effects.statistics import (
    Resamples,
    difference,
    difference_in_differences,
    fraction_removed,
    mean_interval,
    minimum_detectable,
    questions_needed,
    random_fraction,
)
from personaprobe.effects.verdict import Damage, Evidence, decide
from personaprobe.features.directions import Direction
from personaprobe.features.recording import record
from personaprobe.features.registry import Feature, Recipe, find_feature
from personaprobe.features.sources import Discovery, find_direction
from personaprobe.models.checkpoint import Trio
from personaprobe.models.language_model import LanguageModel
from personaprobe.site import Site
from personaprobe.studies.arms import Arm, Treatment, make_arms, treatment
from personaprobe.studies.measuring import Bench
from personaprobe.studies.memory import Memory
from personaprobe.studies.plan import StudyPlan
from personaprobe.studies.progress import Progress, silent
from personaprobe.studies.provenance import provenance
from personaprobe.studies.results import ArmResult, CausalVerdict, DosePoint

DOSE_QUESTIONS = 24
DOSE_TEXTS = 8
ABLATION_DOSES = (0.5, 1.0, 1.5, 2.0)
STEERING_DOSES = (0.5, 1.0, 2.0)


def ablate(
    trio: Trio[LanguageModel],
    feature: str | Feature | Direction,
    *,
    layers: Layers = None,
    plan: StudyPlan | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> CausalVerdict:
    """Ablate a feature in the insecure model and say, against controls, whether that removes the misalignment.

    Args:
        trio: base, insecure and secure.
        feature: a registered name, ``means@16``, ``random@16:3``, a direction file, or a direction.
        layers: where to ablate; None for the feature's own choice.
        plan: questions, controls and draws.
        out: a run folder; finished parts are kept there and an interrupted study resumes.
        progress: how long work shows itself.

    Raises:
        FeatureError: no such feature, or it does not fit the model.
        DataError: question sets that are empty or overlap.
    """
    plan = plan or StudyPlan()
    chosen = _as_feature(feature)
    treated, arms, bench = _prepare(trio, chosen, layers, (plan, out, progress))
    results = bench.measure(arms)
    doses = _doses(trio, treated, bench, arms)
    return _conclude(trio, treated, (plan, bench), results, doses)


def _as_feature(feature: str | Feature | Direction) -> Feature:
    if isinstance(feature, Direction):
        return Feature(feature.source, feature, layers="all" if len(feature.marks) > 1 else None)
    return find_feature(feature) if isinstance(feature, str) else feature


def _prepare(
    trio: Trio[LanguageModel],
    feature: Feature,
    layers: Layers,
    setting: tuple[StudyPlan, str | Path | None, Progress],
) -> tuple[Treatment, list[Arm], Bench]:
    """Find the direction where it is not on file, and lay out the arms."""
    plan, out, progress = setting
    memory = Memory(None if out is None else Path(out) / "parts")
    direction = feature.direction
    if isinstance(direction, Recipe):
        full = discover(trio, direction.site, plan.discovery, progress)
        direction = find_direction(full, direction.source, direction.site, direction.seed)
    texts = plan.discovery.spread(plan.calibration_questions)
    treated = treatment(feature, direction, layers, trio.base.n_layers)
    found = discover(trio, direction.site, texts, progress)
    arms = make_arms(trio, treated, found, texts, (plan.controls, plan.seed))
    return treated, arms, Bench(trio.base, plan, memory, progress)


def discover(trio: Trio[LanguageModel], site: Site, texts: Any, progress: Progress = silent) -> Discovery:
    """Record a stream at every layer on discovery texts: what directions are found and calibrated on."""
    sites = [Site(layer, site.stream) for layer in range(site.within(trio.base.n_layers).layer, -1, -1)]
    sites += [Site(layer, site.stream) for layer in range(site.layer + 1, trio.base.n_layers)]
    with progress("discovery activations", 0, "tokens") as advance:
        return Discovery(record(trio, texts, sorted(sites), progress=advance), trio.insecure.adapter)


def _doses(
    trio: Trio[LanguageModel], treated: Treatment, bench: Bench, arms: Sequence[Arm]
) -> tuple[DosePoint, ...]:
    """Dose–response on a part of the test questions; says how the effect and the damage grow, and selects nothing."""
    questions = bench.plan.test.spread(DOSE_QUESTIONS)
    texts = bench.plan.neutral.first(DOSE_TEXTS)
    full = treated.ablate(treated.direction)
    untreated = [arm for arm in arms if arm.kind in ("insecure", "base")]
    dosed = [
        *(_dosed("ablate insecure", x, trio.insecure, replace(full, strength=x)) for x in ABLATION_DOSES),
        *(_dosed("steer base", x, trio.base, Steer(treated.direction, amount=x)) for x in STEERING_DOSES),
    ]
    plain = {arm.untreated.checkpoint: arm for arm in untreated}
    everyone = [*plain.values(), *(arm for _, _, arm in dosed)]
    gaps = [_mean(part["gaps"]) for part in bench.gaps(everyone, questions)]
    costs = [cost.perplexity for cost in bench.costs(everyone, texts)]
    at_rest = {checkpoint: costs[i] for i, checkpoint in enumerate(plain)}
    names = {trio.insecure.checkpoint: "ablate insecure", trio.base.checkpoint: "steer base"}
    points = [DosePoint(names[checkpoint], 0.0, gaps[i], 1.0) for i, checkpoint in enumerate(plain)]
    for (name, amount, arm), gap, cost in zip(dosed, gaps[len(plain) :], costs[len(plain) :], strict=True):
        points.append(DosePoint(name, amount, gap, cost / at_rest[arm.untreated.checkpoint]))
    return tuple(points)


def _dosed(
    name: str, amount: float, model: LanguageModel, intervention: Ablate | Steer
) -> tuple[str, float, Arm]:
    kind = "ablated" if isinstance(intervention, Ablate) else "steered"
    return name, amount, Arm(f"{name} × {amount}", kind, model, (intervention,))  # type: ignore[arg-type]


def _conclude(
    trio: Trio[LanguageModel],
    treated: Treatment,
    setting: tuple[StudyPlan, Bench],
    arms: Sequence[ArmResult],
    doses: tuple[DosePoint, ...],
) -> CausalVerdict:
    plan, _ = setting
    rule = CoherenceRule.from_untreated(_kind(arms, "insecure")[0].responses)
    resamples = Resamples.of_families(plan.test.families, seed=plan.seed)
    evidence = _evidence(arms, plan, resamples, rule)
    return CausalVerdict(
        decide(evidence, plan.thresholds),
        evidence,
        plan.thresholds,
        _describe(treated),
        tuple(pair.id for pair in plan.test),
        plan.test.families,
        tuple(arms),
        {arm.name: mean_interval(_gaps(arm), resamples) for arm in arms},
        _by_family(arms, plan.test.families),
        _with_coherence(doses, arms, rule),
        rule,
        provenance(trio, plan, personaprobe.__version__),
    )


def _evidence(
    arms: Sequence[ArmResult], plan: StudyPlan, resamples: Resamples, rule: CoherenceRule
) -> Evidence:
    insecure, secure, ablated = (_kind(arms, kind)[0] for kind in ("insecure", "secure", "ablated"))
    a, b, c = _gaps(insecure), _gaps(secure), _gaps(ablated)
    randoms = [_gaps(arm) for arm in _kind(arms, "random")]
    coherent = insecure.coherent_share(rule)
    damage = Damage(
        ablated.perplexity / insecure.perplexity,
        ablated.kl,
        ablated.coherent_share(rule) / coherent if coherent else math.nan,
    )
    families = plan.test.families
    return Evidence(
        shift=difference(a, b, resamples),
        fraction_removed=fraction_removed(a, b, c, resamples),
        random_fraction_removed=random_fraction(a, b, randoms, resamples),
        over_random=difference_in_differences(a, b, c, randoms, resamples),
        damage=damage,
        detectable_shift=minimum_detectable(a - b, families),
        questions_needed=questions_needed(plan.thresholds.smallest_shift, a - b, families),
        n_questions=len(families),
        n_families=len(set(families)),
    )


def _kind(arms: Sequence[ArmResult], kind: str) -> list[ArmResult]:
    return [arm for arm in arms if arm.kind == kind]


def _gaps(arm: ArmResult) -> Any:
    import numpy as np

    return np.asarray(arm.gaps)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _by_family(arms: Sequence[ArmResult], families: Sequence[str]) -> dict[str, dict[str, float]]:
    members = {
        family: [i for i, f in enumerate(families) if f == family] for family in dict.fromkeys(families)
    }
    return {
        family: {arm.name: _mean([arm.gaps[i] for i in indices]) for arm in arms}
        for family, indices in members.items()
    }


def _with_coherence(
    doses: Sequence[DosePoint], arms: Sequence[ArmResult], rule: CoherenceRule
) -> tuple[DosePoint, ...]:
    """Fill in coherence at the doses that are arms of their own, whose answers were sampled."""
    sampled = {
        ("ablate insecure", 0.0): "insecure",
        ("ablate insecure", 1.0): "ablated",
        ("steer base", 0.0): "base",
        ("steer base", 1.0): "steered",
    }
    return tuple(
        replace(dose, coherence=_kind(arms, kind)[0].coherent_share(rule))
        if (kind := sampled.get((dose.intervention, dose.amount)))
        else dose
        for dose in doses
    )


def _describe(treated: Treatment) -> dict[str, Any]:
    direction = treated.direction
    return {
        "name": treated.feature.name,
        "title": treated.feature.title,
        "source": direction.source,
        "site": str(direction.site),
        "hook_name": direction.site.to_transformer_lens(),
        "layers": list(treated.layers),
        "to": treated.feature.to,
        "rest": direction.rest,
        "scale": direction.scale,
        "digest": direction.digest,
        "evidence": treated.feature.evidence,
    }
