"""The sampled answers of an ablation study, judged: beside the preference, and not instead of it."""

from __future__ import annotations

from personaprobe.effects.judges import Judge
from personaprobe.errors import DataError
from personaprobe.studies.evaluated import ArmEvaluation, Evaluation, Preference, compared
from personaprobe.studies.judging import judge_responses
from personaprobe.studies.measuring import Bench
from personaprobe.studies.results import CausalVerdict


def judged(found: CausalVerdict, judge: Judge, bench: Bench) -> Evaluation | None:
    """Have the answers of every arm judged, and compare what that says with what the preference says.

    Returns:
        None where the scored answers are too few to compare arms.
    """
    verdicts = judge_responses(judge, [arm.responses for arm in found.arms], bench.memory, bench.progress)
    heard = [
        ArmEvaluation(arm.name, arm.kind, arm.note, arm.responses, tuple(own))
        for arm, own in zip(found.arms, verdicts, strict=True)
    ]
    try:
        contrasts, removed = compared(heard, bench.plan.seed)
    except DataError:
        return None
    preference = Preference(found.evidence.shift, found.evidence.fraction_removed)
    title = str(found.feature["name"])
    return Evaluation(title, tuple(heard), contrasts, removed, judge.name, {}, preference)
