"""Judged answers of an ablation study: shown beside the preference, which alone decides."""

from __future__ import annotations

from personaprobe.effects.judges.judge import Judge
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.result import ArmEvaluation, Evaluation, contrast_arms
from personaprobe.studies.judging.judge_answers import judge_responses


def judge_verdict(verdict: CausalVerdict, judge: Judge, run: RunContext, seed: int) -> Evaluation:
    """Have the sampled answers of every arm judged, and compare the arms' rates.

    Args:
        verdict: with sampled answers.
        judge: it never sees which arm gave an answer.
        run: cache and progress.
        seed: of intervals.
    """
    arms = [arm for arm in verdict.arms if arm.responses]
    judgements = judge_responses(judge, [arm.responses for arm in arms], run.cache, run.progress)
    evaluated = [
        ArmEvaluation(arm.name, arm.kind, arm.note, arm.responses, tuple(of_arm))
        for arm, of_arm in zip(arms, judgements, strict=True)
    ]
    contrasts = contrast_arms(evaluated, seed)
    preference = Preference(verdict.evidence.shift, verdict.evidence.fraction_removed)
    title = str(verdict.feature["name"])
    return Evaluation(title, tuple(evaluated), contrasts, judge.name, {}, preference)
