"""From measured arms to a verdict: estimates, their intervals, and the rules of the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from personaprobe.effects.verdict import Evidence, decide
from personaprobe.statistics.fractions import share_of_shift
from personaprobe.statistics.intervals import (
    Interval,
    Resamples,
    estimate_from_part,
    mean_from_part,
    mean_interval,
)
from personaprobe.studies.ablation.dose_response import with_coherence
from personaprobe.studies.ablation.evidence import estimate_evidence
from personaprobe.studies.ablation.measurements import StudyMeasurements, first_of, gaps_of, reference_gaps
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.result import Evaluation


def conclude(study: StudyMeasurements, provenance: dict[str, Any]) -> CausalVerdict:
    """Compare the arms and reach a verdict.

    Args:
        study: all measurements.
        provenance: versions, digests and seeds, by which the study can be repeated.
    """
    plan, arms, rule = study.plan, study.arms, study.coherence_rule
    evidence = estimate_evidence(study)
    return CausalVerdict(
        conclusion=decide(evidence, plan.thresholds),
        evidence=evidence,
        thresholds=plan.thresholds,
        feature=study.feature,
        question_ids=tuple(pair.id for pair in plan.test),
        families=plan.test.families,
        arms=tuple(arms),
        arm_gaps={arm.name: _mean_gap(arm, first_of(arms, arm.role), study.resamples) for arm in arms},
        arm_removed={arm.name: _removed(study, arm) for arm in arms if arm.name != arm.role},
        family_gaps=by_family(arms, plan.test.families),
        doses=with_coherence(study.doses, {arm.kind: arm.coherent_share(rule) for arm in arms}),
        coherence_rule=rule,
        provenance=provenance,
        judged=_judged(study, evidence),
    )


def _judged(study: StudyMeasurements, evidence: Evidence) -> Evaluation | None:
    """The judged answers under the feature's name, beside the preference of the same arms."""
    if study.judged is None:
        return None
    preference = Preference(evidence.shift, evidence.fraction_removed)
    return replace(study.judged, title=study.feature["name"], preference=preference)


def _mean_gap(arm: ArmResult, untreated: ArmResult, resampled: Callable[[int], Resamples]) -> Interval:
    whole, part = resampled(len(untreated.gaps)), resampled(len(arm.gaps))
    if len(arm.gaps) == len(untreated.gaps):
        return mean_interval(gaps_of(arm), whole)
    return mean_from_part(gaps_of(arm), gaps_of(untreated), whole, part)


def _removed(study: StudyMeasurements, arm: ArmResult) -> Interval:
    """The share of the shift by which an arm lowers its own checkpoint's preference, on the questions it answered."""
    n = len(arm.gaps)
    insecure, untreated = (gaps_of(first_of(study.arms, role))[:n] for role in ("insecure", arm.role))
    shift = insecure - reference_gaps(study.arms)[:n]
    return share_of_shift(untreated - gaps_of(arm), shift, study.resamples(n))


def by_family(arms: Sequence[ArmResult], families: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean gap of every arm in every family of its questions; an arm that answered a part is estimated by its difference
    to the untreated one there."""
    return {
        family: {
            arm.name: estimate_from_part(
                *(_within(family, gaps, families) for gaps in (arm.gaps, first_of(arms, arm.role).gaps))
            )
            for arm in arms
            if family in families[: len(arm.gaps)]
        }
        for family in dict.fromkeys(families)
    }


def _within(family: str, gaps: Sequence[float], families: Sequence[str]) -> list[float]:
    return [gap for gap, of in zip(gaps, families, strict=False) if of == family]
