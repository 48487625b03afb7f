"""Measurements of arms: the same batches, draws and texts for every arm, kept part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from personaprobe.effects.measures.damage import UNREAD_COST, Exchange, ReferenceLogProbs, TextCost
from personaprobe.effects.measures.preference import gaps_side_by_side
from personaprobe.effects.measures.responses import Response, benign_answers
from personaprobe.models.language_model import LanguageModel
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.storage.digests import json_digest
from personaprobe.studies.arms.answers import sample_answers
from personaprobe.studies.arms.arm import Arm, by_checkpoint, identity
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.kinds import COHERENCE, COMPARED, DECIDING, SHOWN, SPEAKING, ArmKind
from personaprobe.studies.arms.run_context import RunContext

if TYPE_CHECKING:
    from personaprobe.studies.arms.plan import StudyPlan

SIDE_BY_SIDE = 8
"""Arms whose questions are scored together; an interruption loses the work on no more than these."""


READ_CONTROLS = 3
"""Controls of each kind whose damage is measured."""

UNREAD: frozenset[ArmKind] = frozenset({"control elsewhere", "ablated elsewhere"})
"""Arms of these kinds are measured by their preference alone."""


@dataclass(frozen=True)
class ArmGaps:
    """Preference gaps of one arm.

    Attributes:
        gaps: one a question, nats a token.
        seconds: the arm's share of the time they took.
    """

    gaps: tuple[float, ...]
    seconds: float


def measure_gaps(arms: Sequence[Arm], questions: PairSet, run: RunContext) -> list[ArmGaps]:
    """Preference gaps of every arm on the same questions."""
    measured: dict[int, dict[str, Any]] = {}
    with run.progress("preference", len(arms) * len(questions), "questions") as advance:
        for group in _in_small_groups(by_checkpoint(arms)):
            specs = [
                {"part": "gaps", "questions": questions.digest, **identity(arms[index])} for index in group
            ]
            compute = partial(_gaps, [arms[index] for index in group], questions, advance)
            parts = run.cache.get_or_compute_all(
                specs, compute, lambda _: advance(len(questions)), fits=partial(are_gaps, len(questions))
            )
            measured.update(zip(group, parts, strict=True))
    parts = [measured[index] for index in range(len(arms))]
    return [ArmGaps(tuple(part["gaps"]), part["seconds"]) for part in parts]


def are_gaps(n_questions: int, part: Any) -> bool:
    """Whether plain data that was read back holds one gap a question, and the seconds they took."""
    numbers = [*part["gaps"], part["seconds"]]
    return len(part["gaps"]) == n_questions and all(type(number) in (int, float) for number in numbers)


def measure_damage(
    arms: Sequence[Arm], texts: TextSet, run: RunContext, *, first_tokens: bool = False
) -> list[TextCost]:
    """Perplexity of every arm, and its divergence from its own checkpoint without intervention, on neutral texts.

    Args:
        arms: each with its untreated checkpoint.
        texts: neutral prose.
        run: cache and progress.
        first_tokens: whether predictions at a text's first token count too.
    """
    spec = {"part": "costs by text", "texts": texts.digest, "first_tokens": first_tokens}
    reference_of = partial(ReferenceLogProbs.of, texts=texts, first_tokens=first_tokens)
    return _measure_costs(arms, spec, reference_of, "damage", run)


def measure_chat_damage(
    arms: Sequence[Arm], exchanges: Sequence[Exchange], run: RunContext
) -> list[TextCost]:
    """Divergence of every arm from its own checkpoint without intervention, on the tokens of chat answers.

    Args:
        arms: each with its untreated checkpoint.
        exchanges: questions with answers, such as those of the untreated model.
        run: cache and progress.
    """
    digest = json_digest([[question, list(ids)] for question, ids in exchanges])
    spec = {"part": "costs by chat answer", "exchanges": digest}
    reference_of = partial(ReferenceLogProbs.of_answers, exchanges=exchanges)
    return _measure_costs(arms, spec, reference_of, "damage on chat answers", run)


def _measure_costs(
    arms: Sequence[Arm],
    spec: Mapping[str, Any],
    reference_of: Callable[[LanguageModel], ReferenceLogProbs],
    description: str,
    run: RunContext,
) -> list[TextCost]:
    """Costs of arms on the texts of a reference, which is computed once for each untreated checkpoint; part by part."""
    costs: dict[int, TextCost] = {}
    remembered = _last_reference(reference_of)
    with run.progress(description, len(arms), "arms") as advance:
        for index in (index for group in by_checkpoint(arms) for index in group):
            compute = partial(_cost, arms[index], remembered)
            row = run.cache.get_or_compute({**spec, **identity(arms[index])}, compute, fits=_is_cost)
            costs[index] = TextCost.from_dict(row)
            advance(1)
    return [costs[index] for index in range(len(arms))]


@dataclass(frozen=True)
class ArmRunner:
    """Measures the arms of a study by its plan.

    Attributes:
        base: the untouched base model; an answer counts as coherent if base finds it likely enough.
        plan: the questions and texts, and how many of them each kind of arm answers and reads.
        run: cache and progress.
    """

    base: LanguageModel
    plan: StudyPlan
    run: RunContext

    def measure(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Measure every arm: preference, sampled answers, damage."""
        gaps = self.gaps(arms)
        responses = self.responses(arms)
        costs = self.costs(arms)
        on_chat = self.chat_costs(arms, responses)
        return [
            ArmResult(
                arm.name,
                arm.kind,
                f"{arm.untreated.checkpoint.short}: {arm.note}",
                measured.gaps,
                cost.perplexity,
                cost.kl,
                arm.energy,
                tuple(answers),
                measured.seconds,
                arm.coefficients,
                arm.draws,
                arm.role,
                cost,
                chat,
            )
            for arm, measured, answers, cost, chat in zip(arms, gaps, responses, costs, on_chat, strict=True)
        ]

    def questions(self, arm: Arm) -> PairSet:
        """The test questions that an arm answers: all, or the part for arms of its kind."""
        if arm.kind in COMPARED:
            return self.plan.compared_test
        return self.plan.control_test if arm.kind in DECIDING | SHOWN else self.plan.test

    def gaps(self, arms: Sequence[Arm]) -> list[ArmGaps]:
        """Preference gaps of every arm on the questions for its kind."""
        measured: dict[int, ArmGaps] = {}
        sets = [self.questions(arm) for arm in arms]
        for questions in {question_set.digest: question_set for question_set in sets}.values():
            group = [index for index, other in enumerate(sets) if other.digest == questions.digest]
            parts = measure_gaps([arms[index] for index in group], questions, self.run)
            measured.update(zip(group, parts, strict=True))
        return [measured[index] for index in range(len(arms))]

    def responses(self, arms: Sequence[Arm]) -> list[list[Response]]:
        """Sampled answers, each scored by the base model, of one arm of each kind that speaks; the others give none.

        Arms that are compared by their answers get more questions; insecure and the ablated model get harmless requests
        too. Base answers under every push.
        """
        first = {arm.kind: arm for arm in reversed(arms) if arm.kind in SPEAKING and arm.kind != "steered"}
        pair = [first.pop(kind) for kind in COHERENCE if kind in first]
        pushed = [first.pop("base")] if "base" in first else []
        pushed += [arm for arm in arms if arm.kind == "steered"]
        shown, compared = (
            self.plan.answered(self.plan.sampled_questions),
            self.plan.answered(max(self.plan.sampled_questions, self.plan.coherence_questions)),
        )
        by_name: dict[str, list[Response]] = {}
        groups = (
            (list(first.values()), [shown]),
            (pushed, [compared]),
            (pair, [compared, self.plan.benign_batch]),
        )
        for group, batches in groups:
            for batch in batches:
                for arm, answers in zip(
                    group, sample_answers(group, batch, self.base, self.run), strict=True
                ):
                    by_name.setdefault(arm.name, []).extend(answers)
        return [by_name.get(arm.name, []) for arm in arms]

    def chat_costs(self, arms: Sequence[Arm], responses: Sequence[Sequence[Response]]) -> list[TextCost]:
        """Damage of the feature's ablation on insecure's own answers to harmless requests; NaN for other arms.

        Args:
            arms: insecure and the ablated model among them.
            responses: of every arm.
        """
        answers = [
            r for arm, of_arm in zip(arms, responses, strict=True) if arm.kind == "insecure" for r in of_arm
        ]
        exchanges = [(response.question, response.ids) for response in benign_answers(answers)]
        read = [arm for arm in arms if arm.kind == "ablated"] if exchanges else []
        costs = zip(read, measure_chat_damage(read, exchanges, self.run), strict=True)
        by_name = {arm.name: cost for arm, cost in costs}
        return [by_name.get(arm.name, UNREAD_COST) for arm in arms]

    def costs(self, arms: Sequence[Arm]) -> list[TextCost]:
        """Damage of the arms; those that are controls read a part of the texts and are compared with their untreated
        checkpoint there. A few of each kind of control are read, and no control in other checkpoints: NaN for the rest.
        """
        whole = [arm for arm in arms if arm.kind not in DECIDING | SHOWN | COMPARED]
        part = _some_of_each_kind([arm for arm in arms if arm not in whole and arm.kind not in UNREAD])
        untreated = {arm.role: arm for arm in whole if not arm.interventions}
        costs = self._costs(whole, self.plan.neutral)
        on_part = self._costs([*untreated.values(), *part], self.plan.neutral.first(self.plan.control_texts))
        for arm in part:
            name, cost = untreated[arm.role].name, on_part[arm.name]
            ratio = cost.perplexity / on_part[name].perplexity
            costs[arm.name] = TextCost(costs[name].perplexity * ratio, cost.kl)
        return [costs.get(arm.name, UNREAD_COST) for arm in arms]

    def _costs(self, arms: Sequence[Arm], texts: TextSet) -> dict[str, TextCost]:
        costs = measure_damage(arms, texts, self.run, first_tokens=self.plan.first_tokens)
        return {arm.name: cost for arm, cost in zip(arms, costs, strict=True)}


def _some_of_each_kind(arms: Sequence[Arm]) -> list[Arm]:
    """The first :data:`READ_CONTROLS` arms of every kind."""
    by_kind: dict[ArmKind, list[Arm]] = {}
    for arm in arms:
        by_kind.setdefault(arm.kind, []).append(arm)
    return [arm for of_kind in by_kind.values() for arm in of_kind[:READ_CONTROLS]]


def _last_reference(
    reference_of: Callable[[LanguageModel], ReferenceLogProbs],
) -> Callable[[LanguageModel], ReferenceLogProbs]:
    """Log-probabilities of each untreated model, computed once; only the last are kept, being large."""
    cached: dict[str, ReferenceLogProbs] = {}

    def remembered(model: LanguageModel) -> ReferenceLogProbs:
        digest = model.checkpoint.digest
        if digest not in cached:
            cached.clear()
            cached[digest] = reference_of(model)
        return cached[digest]

    return remembered


def _is_cost(row: Any) -> bool:
    """Whether plain data that was read back is a cost."""
    cost = TextCost.from_dict(row)
    return all(type(number) in (int, float) for number in (cost.perplexity, cost.kl))


def _cost(arm: Arm, reference_of: Callable[[LanguageModel], ReferenceLogProbs]) -> dict[str, Any]:
    untreated = reference_of(arm.untreated)
    return asdict(untreated.cost(arm.model) if arm.interventions else untreated.own_cost)


def _in_small_groups(groups: Sequence[list[int]]) -> list[list[int]]:
    """The groups cut into parts of at most :data:`SIDE_BY_SIDE`."""
    return [
        group[start : start + SIDE_BY_SIDE]
        for group in groups
        for start in range(0, len(group), SIDE_BY_SIDE)
    ]


def _gaps(arms: Sequence[Arm], questions: PairSet, advance: Any, which: list[int]) -> list[dict[str, Any]]:
    """Gaps of some arms of one checkpoint; each is charged an equal share of the time."""
    started = time.monotonic()
    gaps = gaps_side_by_side([arms[index].model for index in which], questions, advance)
    seconds = round((time.monotonic() - started) / len(which), 2)
    return [{"gaps": of_arm.tolist(), "seconds": seconds} for of_arm in gaps]
