"""The evidence of a study: every quantity of the verdict's rules with its interval, estimated from measured arms."""

from __future__ import annotations

import math
from typing import Any

from personaprobe.effects.measures.coherence import CoherenceRule
from personaprobe.effects.verdict import Damage, Evidence
from personaprobe.statistics.families import family_summary
from personaprobe.statistics.hypothesis_tests import RankTest, rank_test
from personaprobe.statistics.intervals import (
    UNDEFINED,
    difference,
    difference_in_differences,
    fraction_removed,
    minimum_detectable,
    questions_needed,
    random_fraction,
)
from personaprobe.studies.ablation.measurements import StudyMeasurements, first_of, gaps_of
from personaprobe.studies.arms.arm_result import ArmResult


def estimate_evidence(study: StudyMeasurements) -> Evidence:
    """Estimate all quantities of the verdict's rules; every comparison is paired by question."""
    plan, arms = study.plan, study.arms
    insecure, secure, ablated = (first_of(arms, kind) for kind in ("insecure", "secure", "ablated"))
    a, b, c = gaps_of(insecure), gaps_of(secure), gaps_of(ablated)
    families, resamples = plan.test.families, study.resamples(len(plan.test))
    return Evidence(
        shift=difference(a, b, resamples),
        fraction_removed=fraction_removed(a, b, c, resamples),
        damage=_damage(insecure, ablated, study.coherence_rule),
        detectable_shift=minimum_detectable(a - b, families),
        questions_needed=questions_needed(plan.thresholds.smallest_shift, a - b, families),
        n_questions=len(families),
        n_families=len(set(families)),
        clustering=family_summary(a - c, families),
        **_against_controls(study),
    )


def _against_controls(study: StudyMeasurements) -> dict[str, Any]:
    """The feature beside the controls that decide."""
    controls = [gaps_of(arm) for arm in study.arms if arm.is_deciding]
    if len(controls) < 2:
        return {
            "random_fraction_removed": UNDEFINED,
            "over_random": UNDEFINED,
            "n_controls": len(controls),
            "rank": RankTest(0, len(controls), 1.0),
        }
    n = len(controls[0])  # controls answered the first n questions, and are compared on those
    insecure, secure, ablated = (
        gaps_of(first_of(study.arms, kind))[:n] for kind in ("insecure", "secure", "ablated")
    )
    resamples = study.resamples(n)
    removed, *by_controls = (resamples.estimate(insecure - treated) for treated in (ablated, *controls))
    return {
        "random_fraction_removed": random_fraction(insecure, secure, controls, resamples),
        "over_random": difference_in_differences(insecure, secure, ablated, controls, resamples),
        "n_controls": len(controls),
        "rank": rank_test(removed, by_controls),
    }


def _damage(insecure: ArmResult, ablated: ArmResult, rule: CoherenceRule) -> Damage:
    untreated = insecure.coherent_share(rule)
    coherence = ablated.coherent_share(rule) / untreated if untreated else math.nan
    return Damage.exact(ablated.perplexity / insecure.perplexity, ablated.kl, coherence)
