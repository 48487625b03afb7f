"""The main question: does removing this feature, and only it, remove the misalignment?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from personaprobe.effects.interventions.along_direction import Layers
from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.feature import Feature, as_feature
from personaprobe.effects.targets.target import Target
from personaprobe.errors import ZeroDirectionError
from personaprobe.features.directions.direction import Direction
from personaprobe.models.comparability import comparability_of
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.questions.pairs import PairSet
from personaprobe.studies.ablation.conclusion import conclude
from personaprobe.studies.ablation.dose_response import dose_response
from personaprobe.studies.ablation.judged_answers import judge_arms
from personaprobe.studies.ablation.measurements import FurtherQuestions, StudyMeasurements
from personaprobe.studies.ablation.result import CausalVerdict, DosePoint
from personaprobe.studies.ablation.without_direction import measure_without_direction, shows_shift
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.comparisons.iterated_ablation import iterated_arms
from personaprobe.studies.arms.comparisons.logit_bias import logit_bias_result
from personaprobe.studies.arms.comparisons.other_organisms import other_directions
from personaprobe.studies.arms.comparisons.selected_control import n_candidates, selected_control
from personaprobe.studies.arms.controls import deciding_controls, shown_controls
from personaprobe.studies.arms.kinds import DECIDING
from personaprobe.studies.arms.measurement import ArmRunner, measure_gaps
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.arms.provenance import now, provenance
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.arms.study_arms import StudyArms
from personaprobe.studies.arms.treatment import Treatment

STEERING = (1.0, 2.0)
"""Coefficients at which base is steered and answers: one step as far as fine-tuning moved the mean, and one twice as far."""


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
    plan = plan or StudyPlan()
    runner, named = ArmRunner(trio.base, plan, RunContext.of(out, progress)), as_feature(feature)
    try:
        measurements = _measure(trio, named, layers, runner, judge)
    except ZeroDirectionError:
        if shows_shift(trio, runner):
            raise
        measurements = measure_without_direction(trio, named, runner)
    verdict = conclude(measurements, {**provenance(trio, plan), "made": now()})
    return replace(verdict, comparability=comparability_of(trio, [pair.question for pair in plan.test]))


def _measure(
    trio: Trio[LanguageModel], named: Feature, layers: Layers, runner: ArmRunner, judge: Judge | None
) -> StudyMeasurements:
    """Fit the feature, and measure its ablation, the controls and everything that is compared with them."""
    plan, run = runner.plan, runner.run
    treatment = Treatment.of(trio, named, plan, layers, run.progress)
    arms = StudyArms(trio, treatment, plan.discovery.spread(plan.matching_questions))
    every = _all_arms(arms, named, plan, run)
    measured = runner.measure(every)
    doses: tuple[DosePoint, ...] = ()
    if not plan.decisive_only:
        measured += _logit_bias(trio, plan, run)
        doses = dose_response(trio, treatment, runner, measured)
    narrow, balanced = _narrow(every, plan, run), _balanced(every, plan, run)
    judged = None if judge is None or not plan.samples else judge_arms(measured, judge, run, plan.seed)
    described, candidates = treatment.describe(), n_candidates(named)
    return StudyMeasurements(plan, described, measured, doses, narrow, balanced, candidates, judged)


def _all_arms(arms: StudyArms, feature: Feature, plan: StudyPlan, run: RunContext) -> list[Arm]:
    """Every arm that is a model under interventions, in the order of the report."""
    main = arms.main()
    deciding = arms.controls(deciding_controls(plan.controls, plan.seed), main)
    selected = selected_control(
        arms, [*main, *deciding], n_candidates(feature), plan.discovery, run, plan.seed
    )
    if plan.decisive_only:
        return [*main, *deciding, *selected, *arms.elsewhere([])]
    shown = arms.controls(shown_controls(benign=arms.trio.secure is not None), [*main, *deciding, *selected])
    others = arms.along(other_directions(arms.trio, arms.treatment.target.site), "organism")
    part = Discovery(plan.discovery.spread(plan.compared_questions), plan.calibration_questions, run.progress)
    iterated = iterated_arms(arms, part, plan.further_directions)
    elsewhere = arms.elsewhere(_spread(deciding, plan.null_controls))
    parts = [*deciding, *selected, *shown, *others, *arms.variants(), *iterated]
    return [*main, *parts, *elsewhere, *arms.steered(*STEERING)]


def _spread(controls: Sequence[Arm], n: int) -> list[Arm]:
    """Some controls, evenly over their kinds, which stand one after the other."""
    step = len(controls) // n if n else 1
    return list(controls[:: max(1, step)][:n])


def _logit_bias(trio: Trio[LanguageModel], plan: StudyPlan, run: RunContext) -> list[ArmResult]:
    part = plan.discovery.spread(plan.compared_questions)
    return [logit_bias_result(trio, part, plan.control_test, run)]


def _narrow(arms: Sequence[Arm], plan: StudyPlan, run: RunContext) -> FurtherQuestions | None:
    """Preference on the narrow task; None without one."""
    return None if plan.narrow is None else _further(arms, (), plan.narrow, run)


def _balanced(arms: Sequence[Arm], plan: StudyPlan, run: RunContext) -> FurtherQuestions | None:
    """Preference on style-balanced questions, also under some of the controls that decide; None without such questions."""
    if plan.balanced is None:
        return None
    deciding = [arm for arm in arms if arm.kind in DECIDING]
    return _further(arms, _spread(deciding, plan.null_controls), plan.balanced, run)


def _further(
    arms: Sequence[Arm], controls: Sequence[Arm], questions: PairSet, run: RunContext
) -> FurtherQuestions:
    reference = "secure" if any(arm.kind == "secure" for arm in arms) else "base"
    compared = [arm for arm in arms if arm.kind in ("insecure", "ablated", reference)]
    gaps = [of_arm.gaps for of_arm in measure_gaps([*compared, *controls], questions, run)]
    by_kind = {arm.kind: of_arm for arm, of_arm in zip(compared, gaps, strict=False)}
    return FurtherQuestions(questions, by_kind, tuple(gaps[len(compared) :]))
