"""One organism of a gallery in numbers: how far it shifted, what it learned, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.organisms.registry import TUNED
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.intervals import Interval, Resamples, difference, wilson
from personaprobe.studies.arms.arm import untreated_arms
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.refusals import measure_refusals
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.dynamics.answer_course import AnswerCourse, AnsweredQuestions
from personaprobe.studies.gallery.forms import FormEffect
from personaprobe.studies.gallery.removals import Removals


@dataclass(frozen=True)
class Member:
    """One organism of a gallery.

    Attributes:
        recipe: its recipe's name.
        seed: of its training.
        shifts: insecure − secure preference for careless answers by question set (``test``, ``balanced``, ``narrow``), nats
            per token.
        over_base: insecure − base on the test questions.
        removals: by question set.
        training: the card of the insecure fine-tune's training.
        forms: the shift where answers have another form, on the first table's questions; empty where none was asked for.
        refused: share of requests that base, insecure and secure refuse, by role and by kind of request.
        judged: misaligned answers to free questions, of base and of both fine-tunes; None where none were judged.
    """

    recipe: str
    seed: int
    shifts: Mapping[str, Interval]
    over_base: Interval
    removals: Mapping[str, Removals]
    training: Mapping[str, Any]
    forms: Mapping[str, FormEffect] = field(default_factory=dict)
    refused: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    judged: AnswerCourse | None = None

    @property
    def name(self) -> str:
        """Recipe, and seed where it is not the first."""
        return self.recipe if not self.seed else f"{self.recipe}-{self.seed}"


def measure_shifts(
    trio: Trio[LanguageModel], question_sets: Mapping[str, PairSet], run: RunContext
) -> tuple[dict[str, Interval], Interval]:
    """Shifts by question set, and insecure − base on the first of them."""
    shifts, over_base = {}, []
    for number, (name, questions) in enumerate(question_sets.items()):
        arms = [arm for arm in untreated_arms(trio) if not number or arm.role != "base"]
        measured = measure_gaps(arms, questions, run)
        gaps = {arm.role: np.asarray(of_arm.gaps) for arm, of_arm in zip(arms, measured, strict=True)}
        resamples = Resamples.of_families(questions.families)
        shifts[name] = difference(gaps["insecure"], gaps["secure"], resamples)
        if "base" in gaps:
            over_base.append(difference(gaps["insecure"], gaps["base"], resamples))
    return shifts, over_base[0]


def measure_refused(trio: Trio[LanguageModel], run: RunContext) -> dict[str, dict[str, Interval]]:
    """The share of harmful and of harmless requests that each checkpoint refuses, with Wilson's interval."""
    arms = untreated_arms(trio)
    refused = measure_refusals(arms, Sampling(), run)
    return {
        arm.role: {kind: wilson(sum(answers), len(answers)) for kind, answers in by_kind.items()}
        for arm, by_kind in zip(arms, refused, strict=True)
    }


def measure_judged(trio: Trio[LanguageModel], questions: AnsweredQuestions, run: RunContext) -> AnswerCourse:
    """Free answers of base and of both fine-tunes, as a judge reads them."""
    return questions.measure(trio.base, [{role: trio[role] for role in TUNED}], run)
