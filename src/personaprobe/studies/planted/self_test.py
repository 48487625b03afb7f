"""The self-test: one small study for every planted truth, on the user's own base, with the real rules and controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personaprobe.effects.targets.feature import Feature
from personaprobe.errors import PersonaProbeError
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.organisms.registry import default_question_sets
from personaprobe.progress import Progress, silent
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.questions.texts import load_texts
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.ablation.study import ablate
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.planted.organisms import PlantedOrganisms
from personaprobe.studies.planted.planting import Planter
from personaprobe.studies.planted.truths import TRUTHS, PlantedTruth

SHIFT = 0.18
"""Preference for careless answers that the persona adds, nats per token: above the smallest shift worth detecting, and below
the size at which removing it moves chat answers by a KL near the limit of damage."""

DEPTH = 0.4
"""Depth of the block that writes the persona, as a share of all blocks."""

QUESTIONS = 24
"""Discovery questions on which a persona is planted, and as many others on which its size is set."""


@dataclass(frozen=True)
class TruthResult:
    """The study of one planted truth.

    Attributes:
        truth: that was planted.
        verdict: of the study; None where the study ended with an error.
        error: its message.
    """

    truth: PlantedTruth
    verdict: CausalVerdict | None
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether the verdict is one of those that are right."""
        return self.verdict is not None and self.verdict.verdict in self.truth.expected

    @property
    def outcome(self) -> str:
        """The verdict, or "error"."""
        return "error" if self.verdict is None else self.verdict.verdict

    @property
    def explanation(self) -> str:
        """The sentence of the verdict, or the message of the error."""
        return self.error if self.verdict is None else self.verdict.conclusion.sentence

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        evidence = None if self.verdict is None else self.verdict.evidence
        plain_data: dict[str, Any] = to_plain_json(
            {
                "truth": self.truth.name,
                "expected": list(self.truth.expected),
                "verdict": None if self.verdict is None else self.verdict.verdict,
                "passed": self.passed,
                "sentence": self.explanation,
                "shift": None if evidence is None else evidence.shift.to_dict(),
                "fraction_removed": None if evidence is None else evidence.fraction_removed.to_dict(),
            }
        )
        return plain_data


@dataclass(frozen=True)
class SelfTestPlan:
    """The questions of a self-test, and how strong a persona it plants.

    Attributes:
        studies: the plan of every study; personas are planted by its discovery questions.
        held_out: further questions, on which the size of a persona is set.
        shift: preference for careless answers that a persona adds, nats per token.
        depth: of the block that writes the persona, as a share of all blocks.
    """

    studies: StudyPlan
    held_out: PairSet
    shift: float = SHIFT
    depth: float = DEPTH

    @classmethod
    def of(cls, seed: int = 0) -> SelfTestPlan:
        """A plan on the default question sets that takes minutes: few questions, and the arms that decide."""
        sets = default_question_sets()
        discovery = load_prompts(sets.discovery).spread(2 * QUESTIONS)
        planting = discovery.first(QUESTIONS)
        held_out = PairSet(discovery.name, discovery.pairs[QUESTIONS:])
        return cls(_small_plan(load_prompts(sets.test).spread(36), planting, seed), held_out)


def _small_plan(test: PairSet, discovery: PairSet, seed: int) -> StudyPlan:
    return StudyPlan(
        test=test,
        discovery=discovery,
        neutral=load_texts("neutral/test").first(8),
        controls=45,
        null_controls=0,
        control_texts=1,
        samples=2,
        sampled_questions=1,
        coherence_questions=36,
        benign_samples=2,
        calibration_questions=8,
        matching_questions=4,
        decisive_only=True,
        seed=seed,
        sampling=Sampling(max_new_tokens=16),
    )


def self_test(
    base: LanguageModel,
    plan: SelfTestPlan,
    folder: Path,
    truths: Sequence[PlantedTruth] = TRUTHS,
    *,
    progress: Progress = silent,
    study: Callable[..., CausalVerdict] = ablate,
) -> Iterator[TruthResult]:
    """Study every planted truth, and yield each result as it is reached.

    Args:
        base: without an adapter.
        plan: its questions and the size of personas.
        folder: receives the planted adapters, and the parts that studies share.
        truths: that are planted.
        progress: how long work shows itself.
        study: the ablation study.

    Raises:
        FeatureError: no persona of the wanted size can be planted in the base.
    """
    studies = plan.studies
    planter = Planter(base, studies.discovery, plan.held_out, round(plan.depth * base.n_layers))
    organisms = PlantedOrganisms(planter, studies, plan.shift, folder)
    organisms.length  # noqa: B018  # set before anything is studied
    for truth in truths:
        try:
            trio = organisms.trio(truth.difference)
            feature = Feature(truth.ablated, organisms.feature(truth.ablated, trio))
            yield TruthResult(truth, study(trio, feature, plan=studies, out=folder, progress=progress))
        except PersonaProbeError as error:
            yield TruthResult(truth, None, str(error))
