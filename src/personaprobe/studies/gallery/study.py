"""Measure a gallery: every organism by itself, and the direction of each ablated in all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.feature import as_feature, find_feature
from personaprobe.errors import CheckpointError, DataError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.directions.sources import find_direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import with_adapter
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.organisms.organism import QuestionSets
from personaprobe.organisms.registry import TUNED
from personaprobe.organisms.training.train_organism import CARD
from personaprobe.organisms.training.train_trio import NARROW
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.site import Site
from personaprobe.storage.paths import is_file
from personaprobe.storage.readers.json_files import read_json_object
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.controls import deciding_controls
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.arms.study_arms import StudyArms
from personaprobe.studies.arms.treatment import Treatment
from personaprobe.studies.gallery.member import Member, measure_removals, measure_shifts

SITE = Site(16, "resid_post")
"""Where each organism's difference of means is taken by default: half-way up the demo model."""

MATCHING_QUESTIONS = 16
"""Discovery questions on whose answers controls are matched."""


@dataclass(frozen=True)
class Trained:
    """An organism that was trained for a gallery.

    Attributes:
        recipe: its recipe's name.
        seed: of its training.
        folder: holds ``insecure/`` and ``secure/``.
    """

    recipe: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Recipe, and seed where it is not the first."""
        return self.recipe if not self.seed else f"{self.recipe}-{self.seed}"

    def trio(self, base: LanguageModel) -> Trio[LanguageModel]:
        """The three models, on one copy of the base."""
        insecure, secure = (with_adapter(base, self.folder / role) for role in TUNED)
        return Trio(base, insecure, secure, self.name)

    def card(self) -> dict[str, Any]:
        """The card of the insecure adapter's training."""
        return read_json_object(self.folder / "insecure" / CARD, CheckpointError, nonfinite=True)


@dataclass(frozen=True)
class GalleryPlan:
    """What is measured of each organism.

    Attributes:
        question_sets: of the study; discovery questions are those that directions are found on.
        site: where each organism's difference of means is taken.
        feature: a registered feature that is ablated in all of them too; None for none.
        table_questions: test questions of the table of removals.
        narrow_questions: held-out questions of each narrow task.
        controls: ablations that are matched to each organism's own.
    """

    question_sets: QuestionSets
    site: Site = SITE
    feature: str | None = None
    table_questions: int = 48
    narrow_questions: int = 48
    controls: int = 6

    def sets_of(self, trained: Trained) -> dict[str, PairSet]:
        """The question sets that an organism's shifts are measured on, test questions first."""
        sets = self.question_sets
        loaded = {"test": load_prompts(sets.test)}
        if sets.balanced is not None:
            loaded["balanced"] = load_prompts(sets.balanced)
        loaded = {name: questions.spread(len(questions)) for name, questions in loaded.items()}
        if is_file(trained.folder / NARROW):
            loaded["narrow"] = load_prompts(str(trained.folder / NARROW)).spread(self.narrow_questions)
        return loaded


def measure_gallery(
    base: LanguageModel, organisms: Sequence[Trained], plan: GalleryPlan, run: RunContext
) -> list[Member]:
    """Measure every organism; finished parts are kept, so that an interrupted gallery goes on.

    Args:
        base: that all of them were trained on, loaded.
        organisms: trained.
        plan: questions and site.
        run: cache and progress.

    Raises:
        DataError: no organism, or two of the same name.
        CheckpointError: an organism is not whole, or of another base.
    """
    names = [trained.name for trained in organisms]
    if not names or len(set(names)) < len(names):
        raise DataError(f"a gallery needs organisms of different names; got {', '.join(names) or 'none'}")
    trios = {trained.name: trained.trio(base) for trained in organisms}
    directions = gallery_directions(trios, plan, run)
    questions = load_prompts(plan.question_sets.test).spread(plan.table_questions)
    members = []
    for trained in organisms:
        trio = trios[trained.name]
        shifts, over_base = measure_shifts(trio, plan.sets_of(trained), run)
        controls = own_controls(trio, directions[trained.name], plan, run)
        removals, of_controls = measure_removals(trio, directions, controls, questions, run)
        members.append(
            Member(
                trained.recipe,
                trained.seed,
                shifts,
                over_base,
                removals,
                of_controls,
                len(controls),
                trained.card(),
            )
        )
    return members


def own_controls(
    trio: Trio[LanguageModel], direction: Direction, plan: GalleryPlan, run: RunContext
) -> list[Arm]:
    """Ablations of other directions in insecure that remove as much energy as that of the organism's own direction."""
    pairs = load_prompts(plan.question_sets.discovery)
    fitted = DirectionTarget(direction).fit(trio, Discovery(pairs, progress=run.progress))
    treatment = Treatment(as_feature(direction), fitted, fitted.chosen_layers())
    arms = StudyArms(trio, treatment, pairs.spread(MATCHING_QUESTIONS))
    return arms.controls(deciding_controls(plan.controls, 0), arms.main())


def gallery_directions(
    trios: Mapping[str, Trio[LanguageModel]], plan: GalleryPlan, run: RunContext
) -> dict[str, Direction]:
    """The directions that are ablated in every organism, by name.

    The difference of means of each organism, found on the discovery questions; and the registered feature, if it is a
    direction.
    """
    discovery = Discovery(load_prompts(plan.question_sets.discovery), progress=run.progress)
    found = {
        name: find_direction(discovery.activations(trio, plan.site), "means", plan.site)
        for name, trio in trios.items()
    }
    registered = None if plan.feature is None else find_feature(plan.feature).target.as_direction()
    return {**found, **({} if registered is None else {str(plan.feature): registered})}
