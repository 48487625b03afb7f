"""The main question: does removing this feature, and only it, remove the misalignment?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from personaprobe.effects.interventions.along_direction import Layers
from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.targets.feature import Feature, as_feature
from personaprobe.effects.targets.target import Target
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.studies.ablation.conclusion import conclude
from personaprobe.studies.ablation.dose_response import dose_response
from personaprobe.studies.ablation.judged_answers import judge_verdict
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.controls import study_controls
from personaprobe.studies.arms.measurement import ArmRunner
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.arms.provenance import now, provenance
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.arms.study_arms import make_arms
from personaprobe.studies.arms.treatment import Treatment


def ablate(
    trio: Trio[LanguageModel],
    feature: str | Feature | Direction | Target,
    *,
    layers: Layers = None,
    plan: StudyPlan | None = None,
    judge: Judge | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> CausalVerdict:
    """Ablate a feature in the insecure model and decide, against controls, whether that removes the misalignment.

    Args:
        trio: base, insecure and secure.
        feature: a registered name, ``means@16``, ``random@16:3``, a direction file, or a direction, target or feature.
        layers: where to ablate; None for the feature's own choice.
        plan: questions, controls and draws.
        judge: scores the sampled answers, beside the preference that decides; None leaves them unjudged.
        out: a run folder; finished parts are kept there and an interrupted study resumes.
        progress: how long work shows itself.

    Raises:
        FeatureError: no such feature, or it does not fit the model.
        DataError: question sets that are empty or overlap.
    """
    plan, run = plan or StudyPlan(), RunContext.of(out, progress)
    runner = ArmRunner(trio.base, plan, run)
    treatment = Treatment.of(trio, as_feature(feature), plan, layers, progress)
    texts = plan.discovery.spread(plan.matching_questions)
    controls = study_controls(plan.controls, plan.seed)
    measured = runner.measure(make_arms(trio, treatment, texts, controls))
    doses = dose_response(trio, treatment, runner, measured)
    origin = {**provenance(trio, plan), "made": now()}
    verdict = conclude(plan, treatment, measured, doses, origin)
    if judge is None or not plan.samples:
        return verdict
    return replace(verdict, judged=judge_verdict(verdict, judge, run, plan.seed))
