"""The sampled answers of an ablation study, judged: beside the preference, and not instead of it."""

from __future__ import annotations

from personaprobe.effects.judges.judge import Judge
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.measurement import Bench
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.result import ArmEvaluation, Evaluation, contrast_arms
from personaprobe.studies.judging.judge_answers import judge_responses


def judged(found: CausalVerdict, judge: Judge, bench: Bench) -> Evaluation:
    """Have the answers of every arm that gave some judged, and compare what that says with what the preference says."""
    arms = [arm for arm in found.arms if arm.responses]
    verdicts = judge_responses(judge, [arm.responses for arm in arms], bench.memory, bench.progress)
    heard = [
        ArmEvaluation(arm.name, arm.kind, arm.note, arm.responses, tuple(own))
        for arm, own in zip(arms, verdicts, strict=True)
    ]
    weighed = contrast_arms(heard, bench.plan.seed)
    preference = Preference(found.evidence.shift, found.evidence.fraction_removed)
    title = str(found.feature["name"])
    return Evaluation(title, tuple(heard), weighed, judge.name, {}, preference)
