"""The whole evaluation: from a trio and a feature to judged arms and contrasts between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.targets.feature import find_feature
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.questions.benign import BENIGN
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.fractions import fraction_removed
from personaprobe.statistics.intervals import UNDEFINED, Resamples, difference
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.controls import random_controls
from personaprobe.studies.arms.measurement import measure_damage, measure_gaps
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.arms.provenance import provenance
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.arms.study_arms import StudyArms
from personaprobe.studies.arms.treatment import Treatment
from personaprobe.studies.evaluation.arm_evaluator import ArmEvaluator
from personaprobe.studies.evaluation.contrasts import ContrastResults
from personaprobe.studies.evaluation.plan import EvaluationPlan
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.result import Evaluation, contrast_arms
from personaprobe.studies.judging.own_rubrics import rubrics_sentence


@dataclass(frozen=True)
class EvaluationTarget:
    """The trio and the ablation that are evaluated.

    Attributes:
        trio: loaded checkpoints.
        feature: the feature to ablate in insecure, as users name it; None compares the three checkpoints only.
        controls: number of energy-matched random directions to ablate as well.
        plan: discovery questions for calibrating the ablation, pairs for the preference gap, and neutral texts.
        narrow: pairs of the task that insecure was trained on; None to leave the narrow task out.
    """

    trio: Trio[LanguageModel]
    feature: str | None
    controls: int
    plan: StudyPlan
    narrow: PairSet | None = None

    def arms(self, progress: Progress) -> list[Arm]:
        """The three checkpoints, and those with interventions."""
        if self.feature is None:
            return untreated_arms(self.trio)
        treatment = Treatment.of(self.trio, find_feature(self.feature), self.plan, progress=progress)
        texts = self.plan.discovery.spread(self.plan.matching_questions)
        arms, controls = (
            StudyArms(self.trio, treatment, texts),
            random_controls(self.controls, self.plan.seed),
        )
        main = arms.main()
        return [*main, *arms.controls(controls, main), *arms.steered(1.0)]


def evaluate(
    target: EvaluationTarget,
    plan: EvaluationPlan,
    judge: Judge,
    out: Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Sample answers of every arm, have them judged, and compare the arms.

    Args:
        target: the trio and the ablation.
        plan: questions and samples.
        judge: scores the answers; it does not see which arm gave one.
        out: a run folder for finished parts, from which an interrupted evaluation resumes.
        progress: shows how much is done.
    """
    run, seed = RunContext.of(out, progress), target.plan.seed
    arms = target.arms(progress)
    preference = _preference(arms, run, target.plan.test, seed)
    narrow = None if target.narrow is None else _preference(arms, run, target.narrow, seed)
    costs = measure_damage(arms, target.plan.neutral, run, first_tokens=target.plan.first_tokens)
    evaluated = ArmEvaluator(judge, plan, run).evaluate(arms)
    evaluated = [replace(arm, cost=cost) for arm, cost in zip(evaluated, costs, strict=True)]
    return Evaluation(
        target.feature or target.trio.name,
        tuple(evaluated),
        contrast_arms(evaluated, target.plan.seed),
        judge.name,
        _provenance(target, plan),
        preference,
        narrow,
        {name: contrast_arms(evaluated, seed, among=ids) for name, ids in plan.sets.items()},
        contrast_arms(evaluated, seed, BENIGN) if plan.benign else ContrastResults(),
        rubrics_sentence(plan.rubrics, judge),
    )


def _preference(arms: Sequence[Arm], run: RunContext, questions: PairSet, seed: int) -> Preference:
    """The preference gap of insecure, its reference (secure, or base without one), and insecure with the feature ablated."""
    has_secure = any(arm.kind == "secure" for arm in arms)
    reference_kinds = ("secure", "further secure") if has_secure else ("base",)
    selected = [arm for arm in arms if arm.kind in ("insecure", "ablated", *reference_kinds)]
    measured = measure_gaps(selected, questions, run)
    by_arm = {arm.name: measurement.gaps for arm, measurement in zip(selected, measured, strict=True)}
    gaps = {arm.kind: by_arm[arm.name] for arm in selected}
    reference = np.mean([by_arm[arm.name] for arm in selected if arm.kind in reference_kinds], axis=0)
    resamples = Resamples.of_families(questions.families, seed=seed)
    trio = gaps["insecure"], reference
    removed = fraction_removed(*trio, gaps["ablated"], resamples) if "ablated" in gaps else UNDEFINED
    return Preference(difference(*trio, resamples), removed)


def _provenance(target: EvaluationTarget, plan: EvaluationPlan) -> dict[str, Any]:
    return {
        **provenance(target.trio, target.plan),
        "evaluation": {
            "questions": len(plan.prompts),
            "families": len({prompt.family for prompt in plan.prompts}),
            "forms": [form.name for form in plan.forms],
            "least_answers_a_family": plan.min_per_family,
            "samples": plan.samples,
            **plan.sampling.describe(),
        },
    }
