"""Judged answers of an ablation study: shown beside the preference, which alone decides."""

from __future__ import annotations

from dataclasses import replace

from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.judges.rates import DEFINITIONS
from personaprobe.effects.measures.coherence import coherence_ratio
from personaprobe.statistics.intervals import Interval
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.result import ArmEvaluation, Evaluation, contrast_arms
from personaprobe.studies.judging.judge_answers import judge_responses


def with_judged_answers(verdict: CausalVerdict, judge: Judge, run: RunContext, seed: int) -> CausalVerdict:
    """The verdict with a judge's scores of the sampled answers, and the coherence that they show; neither decides.

    Args:
        verdict: with sampled answers.
        judge: it never sees which arm gave an answer.
        run: cache and progress.
        seed: of intervals.
    """
    judged = judge_verdict(verdict, judge, run, seed)
    damage = replace(verdict.evidence.damage, judged_coherence=judged_coherence(judged))
    return replace(verdict, judged=judged, evidence=replace(verdict.evidence, damage=damage))


def judged_coherence(judged: Evaluation) -> Interval:
    """Share of the ablated model's answers that the judge finds coherent, relative to insecure's to the same questions.

    Answers that the judge could not score in either arm are left out.
    """
    insecure, ablated = (
        _coherent(next(arm for arm in judged.arms if arm.kind == kind)) for kind in ("insecure", "ablated")
    )
    shared = [key for key in insecure if key in ablated]
    before, after = ([flags[key] for key in shared] for flags in (insecure, ablated))
    return coherence_ratio(before, after, [family for family, *_ in shared])


def _coherent(arm: ArmEvaluation) -> dict[tuple[str, str, int], bool]:
    """Whether each scored answer is coherent, by family, question and sample."""
    return {
        (response.family, response.question_id, response.sample): DEFINITIONS[0].coherent(judged.scores[1])
        for response, judged in zip(arm.responses, arm.judged, strict=True)
        if judged.scores is not None
    }


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
