"""The main question: does removing this feature, and only it, remove the misalignment?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import personaprobe
from personaprobe.effects.interventions.along_direction import Layers
from personaprobe.effects.judges.judge import Judge
from personaprobe.features.directions.direction import Direction
from personaprobe.features.registry.registry import Feature, find_feature
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.ablation.conclusion import conclude
from personaprobe.studies.ablation.dose_response import dose_response
from personaprobe.studies.ablation.judged_answers import judged
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.arm import make_arms, study_controls
from personaprobe.studies.arms.measurement import Bench
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.arms.provenance import now, provenance
from personaprobe.studies.arms.treatment import treat


def ablate(
    trio: Trio[LanguageModel],
    feature: str | Feature | Direction,
    *,
    layers: Layers = None,
    plan: StudyPlan | None = None,
    judge: Judge | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> CausalVerdict:
    """Ablate a feature in the insecure model and say, against controls, whether that removes the misalignment.

    Args:
        trio: base, insecure and secure.
        feature: a registered name, ``means@16``, ``random@16:3``, a direction file, or a direction.
        layers: where to ablate; None for the feature's own choice.
        plan: questions, controls and draws.
        judge: scores the sampled answers, beside the preference that decides; None leaves them unjudged.
        out: a run folder; finished parts are kept there and an interrupted study resumes.
        progress: how long work shows itself.

    Raises:
        FeatureError: no such feature, or it does not fit the model.
        DataError: question sets that are empty or overlap.
    """
    plan = plan or StudyPlan()
    bench = Bench(trio.base, plan, RunCache(None if out is None else Path(out) / "parts"), progress)
    treated = treat(trio, as_feature(feature), layers, plan, progress)
    texts = plan.discovery.spread(plan.matching_questions)
    measured = bench.measure(make_arms(trio, treated, texts, study_controls(plan.controls, plan.seed)))
    doses = dose_response(trio, treated, bench, measured)
    told = {**provenance(trio, plan, personaprobe.__version__), "made": now()}
    found = conclude(plan, treated, measured, doses, told)
    if judge is None or not plan.samples:
        return found
    return replace(found, judged=judged(found, judge, bench))


def as_feature(feature: str | Feature | Direction) -> Feature:
    """Read what may stand for a feature; a bare direction is ablated wherever it is calibrated."""
    if isinstance(feature, Direction):
        return Feature(feature.source, feature, layers=tuple(feature.marks) or None)
    return find_feature(feature) if isinstance(feature, str) else feature
