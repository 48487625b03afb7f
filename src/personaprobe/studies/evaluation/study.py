"""From a trio and a feature to judged arms: the whole evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import personaprobe
from personaprobe.effects.judges.judge import Judge
from personaprobe.features.registry.registry import find_feature
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.intervals import UNDEFINED, Resamples, difference, fraction_removed
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.arms.arm import Arm, make_arms, random_controls
from personaprobe.studies.arms.measurement import Bench
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.arms.provenance import provenance
from personaprobe.studies.arms.treatment import treat
from personaprobe.studies.evaluation.arm_evaluator import EvalPlan, Hearing
from personaprobe.studies.evaluation.result import Evaluation, Preference, compared


@dataclass(frozen=True)
class Subject:
    """Who is evaluated.

    Attributes:
        trio: loaded.
        feature: what is ablated in insecure, as users name it; None compares the three checkpoints alone.
        controls: energy-matched random directions that are ablated as well.
        plan: discovery questions, on which the ablation is settled, those of the preference measure, and neutral texts.
        narrow: pairs of the task that insecure was trained on; None where what becomes of it is not asked.
    """

    trio: Trio[LanguageModel]
    feature: str | None
    controls: int
    plan: StudyPlan
    narrow: PairSet | None = None

    def arms(self, progress: Progress) -> list[Arm]:
        """The checkpoints, and what is done to them."""
        if self.feature is None:
            return [Arm(role, role, model) for role, model in self.trio.items()]  # type: ignore[arg-type]  # roles are kinds
        treated = treat(self.trio, find_feature(self.feature), None, self.plan, progress)
        texts = self.plan.discovery.spread(self.plan.matching_questions)
        return make_arms(self.trio, treated, texts, random_controls(self.controls, self.plan.seed))


def evaluate(
    subject: Subject, asked: EvalPlan, judge: Judge, out: Path | None = None, progress: Progress = silent
) -> Evaluation:
    """Let every arm answer, have the answers judged, and weigh the arms against each other.

    Args:
        subject: who.
        asked: what.
        judge: never told which arm answered.
        out: a run folder; finished parts are kept there and an interrupted evaluation resumes.
        progress: how long work shows itself.
    """
    memory = RunCache(None if out is None else out / "parts")
    arms = subject.arms(progress)
    bench = Bench(subject.trio.base, subject.plan, memory, progress)
    preference = _preference(arms, bench, subject.plan.test)
    narrow = None if subject.narrow is None else _preference(arms, bench, subject.narrow)
    costs = bench.costs(arms, subject.plan.neutral)
    heard = Hearing(judge, asked, memory, progress).evaluate(arms)
    heard = [replace(arm, cost=cost) for arm, cost in zip(heard, costs, strict=True)]
    return Evaluation(
        subject.feature or subject.trio.name,
        tuple(heard),
        compared(heard, subject.plan.seed),
        judge.name,
        _provenance(subject, asked),
        preference,
        narrow,
    )


def _preference(arms: Sequence[Arm], bench: Bench, questions: PairSet) -> Preference:
    """The judge-free measure of the arms that an ablation is about."""
    wanted = [arm for arm in arms if arm.kind in ("insecure", "secure", "ablated")]
    parts = bench.gaps(wanted, questions)
    gaps = {arm.kind: part["gaps"] for arm, part in zip(wanted, parts, strict=True)}
    resamples = Resamples.of_families(questions.families, seed=bench.plan.seed)
    trio = gaps["insecure"], gaps["secure"]
    removed = fraction_removed(*trio, gaps["ablated"], resamples) if "ablated" in gaps else UNDEFINED
    return Preference(difference(*trio, resamples), removed)


def _provenance(subject: Subject, asked: EvalPlan) -> dict[str, Any]:
    told = provenance(subject.trio, subject.plan, personaprobe.__version__)
    return {
        **told,
        "evaluation": {
            "questions": len(asked.prompts),
            "families": len({ask.family for ask in asked.prompts}),
            "forms": [form.name for form in asked.forms],
            "least_answers_a_family": asked.least,
            "samples": asked.samples,
            **asked.sampling.describe(),
        },
    }
