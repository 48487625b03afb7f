"""Measuring arms: the same batches, draws and texts for every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from personaprobe.effects.measures.damage import ReferenceLogProbs, TextCost
from personaprobe.effects.measures.preference import gaps_side_by_side
from personaprobe.effects.measures.responses import Response
from personaprobe.models.language_model import LanguageModel
from personaprobe.progress import Progress
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.ablation.result import ArmResult
from personaprobe.studies.arms.answers import Interview, answer
from personaprobe.studies.arms.arm import Arm, by_checkpoint, identity
from personaprobe.studies.arms.kinds import DECIDING, SPEAKING, ArmKind
from personaprobe.studies.arms.plan import StudyPlan

SIDE_BY_SIDE = 8
"""Arms whose questions are scored together."""

SHOWN: frozenset[ArmKind] = frozenset({"component", "shuffled", "steered"})
"""Arms that decide nothing; they answer half of the questions that controls which decide answer."""


@dataclass(frozen=True)
class Bench:
    """Where arms are measured.

    Attributes:
        base: the untouched base model, which says how much an answer reads like language.
        plan: what is asked.
        memory: parts already finished.
        progress: how long work shows itself.
    """

    base: LanguageModel
    plan: StudyPlan
    memory: RunCache
    progress: Progress

    def measure(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Measure every arm: preference, sampled answers, damage."""
        gaps = self._all_gaps(arms)
        responses = self.responses(arms)
        costs = self._all_costs(arms)
        return [
            ArmResult(
                arm.name,
                arm.kind,
                f"{arm.untreated.checkpoint.short}: {arm.note}",
                tuple(part["gaps"]),
                cost.perplexity,
                cost.kl,
                arm.energy,
                tuple(drawn),
                part["seconds"],
                arm.strengths,
                arm.draws,
            )
            for arm, part, drawn, cost in zip(arms, gaps, responses, costs, strict=True)
        ]

    def questions(self, arm: Arm) -> PairSet:
        """The test questions an arm answers: all, or the part that arms of its kind answer."""
        if arm.kind in SHOWN:
            return self.plan.shown_test
        return self.plan.control_test if arm.kind in DECIDING else self.plan.test

    def _all_costs(self, arms: Sequence[Arm]) -> list[TextCost]:
        """Damage of every arm; of controls on a part of the texts, by the ratio to their untreated checkpoint there."""
        part = [arm for arm in arms if arm.kind in DECIDING | SHOWN]
        whole = [arm for arm in arms if arm.kind not in DECIDING | SHOWN]
        untreated = {arm.untreated.checkpoint.digest: arm for arm in whole if not arm.interventions}
        few, texts = [*untreated.values(), *part], self.plan.neutral.first(self.plan.control_texts)
        found = _by_name(whole, self.costs(whole, self.plan.neutral))
        on_part = _by_name(few, self.costs(few, texts))
        for arm in part:
            own, cost = untreated[arm.untreated.checkpoint.digest].name, on_part[arm.name]
            ratio = cost.perplexity / on_part[own].perplexity
            found[arm.name] = TextCost(found[own].perplexity * ratio, cost.kl)
        return [found[arm.name] for arm in arms]

    def _all_gaps(self, arms: Sequence[Arm]) -> list[dict[str, Any]]:
        """Gaps of every arm on the questions of its kind."""
        found: dict[int, dict[str, Any]] = {}
        asked = [self.questions(arm) for arm in arms]
        for questions in {each.digest: each for each in asked}.values():
            group = [index for index, own in enumerate(asked) if own.digest == questions.digest]
            parts = self.gaps([arms[index] for index in group], questions)
            found.update(zip(group, parts, strict=True))
        return [found[index] for index in range(len(arms))]

    def gaps(self, arms: Sequence[Arm], questions: PairSet) -> list[dict[str, Any]]:
        """Preference gaps of every arm on the same questions, each with the seconds it took."""
        found: dict[int, dict[str, Any]] = {}
        with self.progress("preference", len(arms) * len(questions), "questions") as advance:
            for group in _a_few(by_checkpoint(arms)):
                specs = [
                    {"part": "gaps", "questions": questions.digest, **identity(arms[index])}
                    for index in group
                ]
                compute = partial(_gaps, [arms[index] for index in group], questions, advance)
                parts = self.memory.get_or_compute_all(specs, compute, lambda _: advance(len(questions)))
                found.update(zip(group, parts, strict=True))
        return [found[index] for index in range(len(arms))]

    def responses(self, arms: Sequence[Arm]) -> list[list[Response]]:
        """Sampled answers, each scored by the base model, of one arm of each kind that speaks; the others give none."""
        asked = self.plan.test.spread(self.plan.sampled_questions).prompts
        interview = Interview(asked, self.plan.samples, self.plan.sampling)
        first = list({arm.kind: arm for arm in reversed(arms) if arm.kind in SPEAKING}.values())
        drawn = answer(first, interview, self.base, self.memory, self.progress)
        by_name = {arm.name: own for arm, own in zip(first, drawn, strict=True)}
        return [by_name.get(arm.name, []) for arm in arms]

    def costs(self, arms: Sequence[Arm], texts: TextSet) -> list[TextCost]:
        """Damage of every arm, measured against its own checkpoint without intervention."""
        costs: dict[str, TextCost] = {}
        reading = cached_reading(texts, first_tokens=self.plan.first_tokens)
        with self.progress("damage", len(arms), "arms") as advance:
            for arm in (arm for group in _grouped(arms) for arm in group):
                spec = {"part": "costs", "texts": texts.digest, "first_tokens": self.plan.first_tokens}
                spec |= identity(arm)
                costs[arm.name] = TextCost(**self.memory.get_or_compute(spec, partial(_cost, arm, reading)))
                advance(1)
        return [costs[arm.name] for arm in arms]


def _by_name(arms: Sequence[Arm], costs: Sequence[TextCost]) -> dict[str, TextCost]:
    return {arm.name: cost for arm, cost in zip(arms, costs, strict=True)}


def _grouped(arms: Sequence[Arm]) -> list[list[Arm]]:
    return [[arms[index] for index in group] for group in by_checkpoint(arms)]


def cached_reading(texts: TextSet, *, first_tokens: bool) -> Callable[[LanguageModel], ReferenceLogProbs]:
    """Let each untreated model read the texts once; only the last reading is kept, being large."""
    kept: dict[str, ReferenceLogProbs] = {}

    def reading(reference: LanguageModel) -> ReferenceLogProbs:
        digest = reference.checkpoint.digest
        if digest not in kept:
            kept.clear()
            kept[digest] = ReferenceLogProbs.of(reference, texts, first_tokens=first_tokens)
        return kept[digest]

    return reading


def _cost(arm: Arm, reading: Callable[[LanguageModel], ReferenceLogProbs]) -> dict[str, float]:
    read = reading(arm.untreated)
    return asdict(read.cost(arm.model) if arm.interventions else read.own_cost)


def _a_few(groups: Sequence[list[int]]) -> list[list[int]]:
    """The groups cut into small ones: an interruption loses no more than one of those."""
    return [
        group[start : start + SIDE_BY_SIDE]
        for group in groups
        for start in range(0, len(group), SIDE_BY_SIDE)
    ]


def _gaps(arms: Sequence[Arm], questions: PairSet, advance: Any, which: list[int]) -> list[dict[str, Any]]:
    """Gaps of some arms of one checkpoint; each bears an equal share of the time."""
    started = time.monotonic()
    gaps = gaps_side_by_side([arms[index].model for index in which], questions, advance)
    seconds = round((time.monotonic() - started) / len(which), 2)
    return [{"gaps": own.tolist(), "seconds": seconds} for own in gaps]
