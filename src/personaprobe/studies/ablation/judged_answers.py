"""Judged answers of an ablation study: shown beside the preference, which alone decides."""

from __future__ import annotations

from collections.abc import Sequence

from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.judges.rates import DEFINITIONS
from personaprobe.effects.measures.coherence import paired_coherence_ratio
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.evaluation.contrasts import misaligned_difference
from personaprobe.studies.evaluation.result import ArmEvaluation, Evaluation, contrast_arms, shared_answers
from personaprobe.studies.judging.judge_answers import judge_responses


def judge_arms(arms: Sequence[ArmResult], judge: Judge, run: RunContext, seed: int) -> Evaluation:
    """Have the sampled answers of every arm judged, and compare the arms' rates.

    Args:
        arms: of a study; those without answers are left out.
        judge: it never sees which arm gave an answer.
        run: cache and progress.
        seed: of intervals.
    """
    speaking = [arm for arm in arms if arm.responses]
    judgements = judge_responses(judge, [arm.responses for arm in speaking], run.cache, run.progress)
    evaluated = [
        ArmEvaluation(arm.name, arm.kind, arm.note, arm.responses, tuple(of_arm))
        for arm, of_arm in zip(speaking, judgements, strict=True)
    ]
    # further pushes are shown: with them, the contrast of base steered would be that of their mean
    pushes = [arm for arm in evaluated if arm.kind == "steered"][1:]
    compared = [arm for arm in evaluated if arm not in pushes]
    return Evaluation("", tuple(evaluated), contrast_arms(compared, seed), judge.name, {})


def induced(judged: Evaluation, seed: int) -> Interval:
    """Misaligned share of base, steered as far as fine-tuning moved the mean, minus that of base.

    Undefined where either did not answer, or where their questions are of fewer than two families.

    Args:
        judged: arms that answered the same questions.
        seed: of the interval.
    """
    by_kind = {arm.kind: arm for arm in reversed(judged.arms)}
    if not {"base", "steered"} <= set(by_kind):
        return UNDEFINED
    pushed_and_base = [by_kind["steered"], by_kind["base"]]
    families, (steered, base) = shared_answers(pushed_and_base)
    return UNDEFINED if len(set(families)) < 2 else misaligned_difference(families, steered, base, seed)


def judged_coherence(judged: Evaluation) -> Interval:
    """Share of the ablated model's answers that the judge finds coherent, relative to insecure's to the same questions.

    Answers that the judge could not score in either arm are left out.
    """
    insecure, ablated = (
        _coherent(next(arm for arm in judged.arms if arm.kind == kind)) for kind in ("insecure", "ablated")
    )
    return paired_coherence_ratio(insecure, ablated)


def _coherent(arm: ArmEvaluation) -> dict[tuple[str, str, int], bool]:
    """Whether each scored answer is coherent, by family, question and sample."""
    return {
        (response.family, response.question_id, response.sample): DEFINITIONS[0].coherent(judged.scores[1])
        for response, judged in zip(arm.responses, arm.judged, strict=True)
        if judged.scores is not None
    }
