"""From measured arms to a verdict: estimates, their intervals, and the rules of the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from personaprobe.effects.measures.coherence import CoherenceRule
from personaprobe.effects.verdict import Damage, Evidence, decide
from personaprobe.statistics.intervals import (
    UNDEFINED,
    Interval,
    Resamples,
    difference,
    difference_in_differences,
    estimate_from_part,
    fraction_removed,
    mean_from_part,
    mean_interval,
    minimum_detectable,
    questions_needed,
    random_fraction,
)
from personaprobe.studies.ablation.dose_response import with_coherence
from personaprobe.studies.ablation.result import CausalVerdict, DosePoint
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.arms.treatment import Treatment

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


def conclude(
    plan: StudyPlan,
    treatment: Treatment,
    arms: Sequence[ArmResult],
    doses: Sequence[DosePoint],
    provenance: dict[str, Any],
) -> CausalVerdict:
    """Compare the arms and reach a verdict.

    Args:
        plan: of the study.
        treatment: the feature's ablation and steering.
        arms: all of them, measured on the same questions.
        doses: dose–response, which is shown and decides nothing.
        provenance: versions, digests and seeds, by which the study can be repeated.
    """
    rule = CoherenceRule.from_untreated(_of(arms, "insecure").responses)
    resampled = cache(lambda n: Resamples.of_families(plan.test.families[:n], seed=plan.seed))
    evidence = estimate_evidence(plan, arms, resampled, rule)
    return CausalVerdict(
        conclusion=decide(evidence, plan.thresholds),
        evidence=evidence,
        thresholds=plan.thresholds,
        feature=treatment.describe(),
        question_ids=tuple(pair.id for pair in plan.test),
        families=plan.test.families,
        arms=tuple(arms),
        arm_gaps={arm.name: _mean_gap(arm, _untreated(arms, arm), resampled) for arm in arms},
        family_gaps=by_family(arms, plan.test.families),
        doses=with_coherence(doses, {arm.kind: arm.coherent_share(rule) for arm in arms}),
        coherence_rule=rule,
        provenance=provenance,
    )


def estimate_evidence(
    plan: StudyPlan, arms: Sequence[ArmResult], resampled: Callable[[int], Resamples], rule: CoherenceRule
) -> Evidence:
    """Estimate all quantities of the verdict's rules; every comparison is paired by question."""
    insecure, secure, ablated = (_of(arms, kind) for kind in ("insecure", "secure", "ablated"))
    a, b, c = _gaps(insecure), _gaps(secure), _gaps(ablated)
    families = plan.test.families
    resamples = resampled(len(families))
    randoms = [_gaps(arm) for arm in arms if arm.is_deciding]
    by_random = over_random = UNDEFINED
    if len(randoms) >= 2:
        n = len(randoms[0])  # controls answered the first n questions, and are compared on those
        by_random = random_fraction(a[:n], b[:n], randoms, resampled(n))
        over_random = difference_in_differences(a[:n], b[:n], c[:n], randoms, resampled(n))
    return Evidence(
        shift=difference(a, b, resamples),
        fraction_removed=fraction_removed(a, b, c, resamples),
        random_fraction_removed=by_random,
        over_random=over_random,
        damage=_damage(insecure, ablated, rule),
        detectable_shift=minimum_detectable(a - b, families),
        questions_needed=questions_needed(plan.thresholds.smallest_shift, a - b, families),
        n_questions=len(families),
        n_families=len(set(families)),
        n_controls=len(randoms),
    )


def _damage(insecure: ArmResult, ablated: ArmResult, rule: CoherenceRule) -> Damage:
    untreated = insecure.coherent_share(rule)
    coherence = ablated.coherent_share(rule) / untreated if untreated else math.nan
    return Damage(ablated.perplexity / insecure.perplexity, ablated.kl, coherence)


def _of(arms: Sequence[ArmResult], kind: str) -> ArmResult:
    return next(arm for arm in arms if arm.kind == kind)


def _gaps(arm: ArmResult) -> Float[np.ndarray, " question"]:
    import numpy as np

    return np.asarray(arm.gaps)


def _untreated(arms: Sequence[ArmResult], arm: ArmResult) -> ArmResult:
    """The arm of the same checkpoint without intervention; it answered all questions."""
    roles: dict[ArmKind, ArmKind] = {"base": "base", "steered": "base", "secure": "secure"}
    return _of(arms, roles.get(arm.kind, "insecure"))


def _mean_gap(arm: ArmResult, untreated: ArmResult, resampled: Callable[[int], Resamples]) -> Interval:
    whole, part = resampled(len(untreated.gaps)), resampled(len(arm.gaps))
    if len(arm.gaps) == len(untreated.gaps):
        return mean_interval(_gaps(arm), whole)
    return mean_from_part(_gaps(arm), _gaps(untreated), whole, part)


def by_family(arms: Sequence[ArmResult], families: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean gap of every arm in every family of its questions; an arm that answered a part is estimated by its difference
    to the untreated one there."""
    return {
        family: {
            arm.name: estimate_from_part(
                *(_within(family, gaps, families) for gaps in (arm.gaps, _untreated(arms, arm).gaps))
            )
            for arm in arms
            if family in families[: len(arm.gaps)]
        }
        for family in dict.fromkeys(families)
    }


def _within(family: str, gaps: Sequence[float], families: Sequence[str]) -> list[float]:
    return [gap for gap, of in zip(gaps, families, strict=False) if of == family]
