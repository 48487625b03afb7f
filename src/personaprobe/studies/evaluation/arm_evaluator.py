"""Evaluate arms: sample their answers, have them judged, and measure capabilities that an ablation must not cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.measures.capability import right_answers
from personaprobe.effects.measures.responses import Response
from personaprobe.questions.capability import load_exercises
from personaprobe.studies.arms.answers import QuestionBatch, sample_answers
from personaprobe.studies.arms.arm import Arm, by_checkpoint, identity
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.arms.refusals import measure_refusals
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.evaluation.plan import EvaluationPlan
from personaprobe.studies.evaluation.result import ArmEvaluation
from personaprobe.studies.judging.judge_answers import judge_responses

TESTED_IN_FORMS: frozenset[ArmKind] = frozenset({"secure", "insecure", "ablated"})
"""Kinds of arms that answer in other forms too, to see whether the persona returns in another format."""


@dataclass(frozen=True)
class ArmEvaluator:
    """Evaluates arms by one plan and one judge.

    Attributes:
        judge: sees questions and answers, and never an arm.
        plan: questions and samples.
        run: cache and progress.
    """

    judge: Judge
    plan: EvaluationPlan
    run: RunContext

    def evaluate(self, arms: Sequence[Arm]) -> list[ArmEvaluation]:
        """Sample and judge the answers of every arm, and measure its capabilities."""
        responses: list[list[Response]] = [[] for _ in arms]
        for batch in self.plan.plain_batches:
            self._sample(range(len(arms)), arms, batch, responses)
        if self.plan.benign:
            self._sample(range(len(arms)), arms, self.plan.benign_batch, responses)
        in_forms = [index for index, arm in enumerate(arms) if arm.kind in TESTED_IN_FORMS]
        self._sample(in_forms, arms, self.plan.form_batch, responses)
        judged = judge_responses(self.judge, responses, self.run.cache, self.run.progress, self.plan.rubrics)
        right, refused = self._capabilities(arms)
        return [
            ArmEvaluation(
                arm.name, arm.kind, arm.note, tuple(answers), tuple(judgements), tuple(solved), refusals
            )
            for arm, answers, judgements, solved, refusals in zip(
                arms, responses, judged, right, refused, strict=True
            )
        ]

    def _sample(
        self,
        indices: Sequence[int],
        arms: Sequence[Arm],
        batch: QuestionBatch,
        responses: list[list[Response]],
    ) -> None:
        """Add the responses of some of the arms."""
        sampled = sample_answers([arms[index] for index in indices], batch, None, self.run)
        for index, of_arm in zip(indices, sampled, strict=True):
            responses[index] += of_arm

    def _capabilities(self, arms: Sequence[Arm]) -> tuple[list[list[bool]], list[dict[str, list[bool]]]]:
        if not self.plan.capabilities:
            return [[] for _ in arms], [{} for _ in arms]
        return self._right(arms), measure_refusals(arms, self.plan.sampling, self.run)

    def _right(self, arms: Sequence[Arm]) -> list[list[bool]]:
        """Whether each arm solves each exercise."""
        exercises = load_exercises()
        right: dict[int, list[bool]] = {}
        with self.run.progress("exercises", len(arms) * len(exercises), "exercises") as advance:
            for group in by_checkpoint(arms):
                members = [arms[index] for index in group]
                spec = {"part": "exercises", "asked": [vars(exercise) for exercise in exercises]}
                spec["models"] = [identity(arm) for arm in members]
                compute = partial(right_answers, [arm.model for arm in members], exercises)
                fits = partial(_are_truth_values, len(members), len(exercises))
                of_members = self.run.cache.get_or_compute(spec, compute, fits=fits)
                right.update(zip(group, of_members, strict=True))
                advance(len(members) * len(exercises))
        return [right[index] for index in range(len(arms))]


def _are_truth_values(n_arms: int, n_exercises: int, of_arms: Any) -> bool:
    """Whether plain data that was read back holds a truth value of every arm at every exercise."""
    return len(of_arms) == n_arms and all(
        len(values) == n_exercises and all(value is True or value is False for value in values)
        for values in of_arms
    )
