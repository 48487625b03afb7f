"""Measure a gallery: every organism by itself, and the direction of each ablated in all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.feature import as_feature, find_feature
from personaprobe.errors import CheckpointError, DataError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.directions.sources import find_direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import load_fine_tune
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.organisms.named_recipes import NamedRecipe
from personaprobe.organisms.organism import CARD, Organism, QuestionSets
from personaprobe.organisms.registry import TUNED
from personaprobe.organisms.training.train_trio import NARROW
from personaprobe.questions.formats import AnswerForm
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.site import Site, site_above_half_way
from personaprobe.storage.readers.json_files import read_json_object
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.comparisons.other_organisms import fits
from personaprobe.studies.arms.controls import deciding_controls
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.arms.study_arms import StudyArms
from personaprobe.studies.arms.treatment import Treatment
from personaprobe.studies.dynamics.answer_course import AnsweredQuestions
from personaprobe.studies.gallery.forms import FormEffect, measure_forms
from personaprobe.studies.gallery.member import Member, measure_judged, measure_refused, measure_shifts
from personaprobe.studies.gallery.removals import Ablated, measure_removals

MATCHING_QUESTIONS = 16
"""Discovery questions on whose answers controls are matched."""


@dataclass(frozen=True)
class Entry:
    """An organism of a gallery before it is measured.

    Attributes:
        recipe: its recipe's name, or its own where it was registered.
        seed: of its training.
        checkpoints: base, insecure and secure.
        narrow: questions of its narrow task; None where there are none.
        trigger: of a backdoored organism; empty for others.
        training: the card of its insecure fine-tune.
    """

    recipe: str
    seed: int
    checkpoints: Trio[Checkpoint]
    narrow: str | None = None
    trigger: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_folder(cls, named: NamedRecipe, seed: int, folder: Path, base: Checkpoint) -> Entry:
        """An organism that ``organisms train`` wrote.

        Raises:
            CheckpointError: a card is missing or damaged.
        """
        insecure, secure = (base.fine_tune(folder / role) for role in TUNED)
        card = read_json_object(folder / "insecure" / CARD, CheckpointError, nonfinite=True)
        trio = Trio(base, insecure, secure, named.name)
        narrow = str(folder / NARROW) if named.files is None else named.narrow
        return cls(named.name, seed, trio, narrow, named.variant.trigger, card)

    @classmethod
    def of_organism(cls, organism: Organism) -> Entry:
        """A registered organism."""
        training = {} if organism.recipe is None else {"recipe": asdict(organism.recipe)}
        seed = 0 if organism.recipe is None else organism.recipe.seed
        return cls(organism.name, seed, organism.trio, organism.question_sets.narrow, "", training)

    @property
    def name(self) -> str:
        """Recipe, and seed where it is not the first."""
        return self.recipe if not self.seed else f"{self.recipe}-{self.seed}"

    def loaded(self, base: LanguageModel) -> Trio[LanguageModel]:
        """The three models; adapters are on one copy of the base.

        Raises:
            CheckpointError: it is an organism of another base.
        """
        if self.checkpoints.base.digest != base.checkpoint.digest:
            raise CheckpointError(
                f"{self.name} is an organism of {self.checkpoints.base}, not of {base.checkpoint}"
            )
        insecure, secure = (load_fine_tune(base, self.checkpoints[role]) for role in TUNED)
        return Trio(base, insecure, secure, self.name)


@dataclass(frozen=True)
class GalleryPlan:
    """The measurements of each organism.

    Attributes:
        question_sets: of the study; discovery questions are those that directions are found on.
        site: where each organism's difference of means is taken.
        feature: a registered feature that is ablated in all of them too; None for none.
        table_questions: of each question set that has a table of removals.
        narrow_questions: held-out questions of each narrow task.
        controls: ablations that are matched to that of each organism's own direction, and as many to that of the feature.
        forms: other forms of answers in which each shift is measured.
        judged: free questions with their judge; None where answers are not judged.
    """

    question_sets: QuestionSets
    site: Site
    feature: str | None = None
    table_questions: int = 36
    narrow_questions: int = 48
    controls: int = 6
    forms: tuple[AnswerForm, ...] = ()
    judged: AnsweredQuestions | None = None

    def sets_of(self, entry: Entry) -> dict[str, PairSet]:
        """The question sets that an organism's shifts are measured on, test questions first."""
        sets = self.tables()
        if entry.trigger:
            sets["triggered"] = sets["test"].behind(entry.trigger)
        sets = {name: questions.spread(len(questions)) for name, questions in sets.items()}
        if entry.narrow is not None:
            sets["narrow"] = load_prompts(entry.narrow).spread(self.narrow_questions)
        return sets

    def tables(self) -> dict[str, PairSet]:
        """The question sets, whole, that have a table of removals."""
        sets = {"test": load_prompts(self.question_sets.test)}
        if self.question_sets.balanced is not None:
            sets["balanced"] = load_prompts(self.question_sets.balanced)
        return sets


def measure_gallery(
    base: LanguageModel, entries: Sequence[Entry], plan: GalleryPlan, run: RunContext
) -> list[Member]:
    """Measure every organism; finished parts are kept, so that an interrupted gallery goes on.

    Args:
        base: that all of them were trained on, loaded.
        entries: organisms of that base.
        plan: questions and site.
        run: cache and progress.

    Raises:
        DataError: no organism, or two of the same name.
        CheckpointError: an organism is not whole, or of another base.
    """
    names = [entry.name for entry in entries]
    if not names or len(set(names)) < len(names):
        raise DataError(f"a gallery needs organisms of different names; got {', '.join(names) or 'none'}")
    trios = {entry.name: entry.loaded(base) for entry in entries}
    directions = gallery_directions(trios, plan, run)
    shown = shown_directions(entries, directions)
    tables = {name: questions.spread(plan.table_questions) for name, questions in plan.tables().items()}
    members = []
    for entry in entries:
        trio = trios[entry.name]
        shifts, over_base = measure_shifts(trio, plan.sets_of(entry), run)
        ablated = {
            name: Ablated(
                directions[name],
                matched_controls(trio, directions[name], plan, run)
                if name in (entry.name, plan.feature)
                else (),
            )
            for name in dict.fromkeys((*shown, entry.name))
        }
        removals = {name: measure_removals(trio, ablated, table, run) for name, table in tables.items()}
        forms = _in_forms(trio, ablated, tables["test"], plan, run)
        refused = measure_refused(trio, run)
        judged = None if plan.judged is None else measure_judged(trio, plan.judged, run)
        of_answers = (forms, refused, judged)
        members.append(
            Member(entry.recipe, entry.seed, shifts, over_base, removals, entry.training, *of_answers)
        )
    return members


def _in_forms(
    trio: Trio[LanguageModel],
    ablated: Mapping[str, Ablated],
    questions: PairSet,
    plan: GalleryPlan,
    run: RunContext,
) -> dict[str, FormEffect]:
    """The shift in every form, without and with those directions ablated that have controls."""
    if not plan.forms:
        return {}
    compared = {name: one.direction for name, one in ablated.items() if one.controls}
    return measure_forms(trio, compared, questions, plan.forms, run)


def shown_directions(entries: Sequence[Entry], directions: Mapping[str, Direction]) -> list[str]:
    """The directions that are ablated in every organism: that of each recipe's first seed, and the registered feature."""
    first: dict[str, Entry] = {}
    for entry in entries:
        if entry.recipe not in first or entry.seed < first[entry.recipe].seed:
            first[entry.recipe] = entry
    further = {entry.name for entry in entries} - {entry.name for entry in first.values()}
    return [name for name in directions if name not in further]


def matched_controls(
    trio: Trio[LanguageModel], direction: Direction, plan: GalleryPlan, run: RunContext
) -> list[Arm]:
    """Ablations of other directions in insecure that remove as much energy as that of this direction."""
    pairs = load_prompts(plan.question_sets.discovery)
    fitted = DirectionTarget(direction).fit(trio, Discovery(pairs, progress=run.progress))
    treatment = Treatment(as_feature(direction), fitted, fitted.chosen_layers())
    arms = StudyArms(trio, treatment, pairs.spread(MATCHING_QUESTIONS))
    return arms.controls(deciding_controls(plan.controls, 0), arms.main())


def gallery_directions(
    trios: Mapping[str, Trio[LanguageModel]], plan: GalleryPlan, run: RunContext
) -> dict[str, Direction]:
    """All directions of a gallery, by name.

    The difference of means of each organism, found on the discovery questions; and the registered feature, if it is a
    direction of this model.
    """
    discovery = Discovery(load_prompts(plan.question_sets.discovery), progress=run.progress)
    directions = {
        name: find_direction(discovery.activations(trio, plan.site), "means", plan.site)
        for name, trio in trios.items()
    }
    registered = None if plan.feature is None else find_feature(plan.feature).target.as_direction()
    if registered is None or not fits(registered, next(iter(trios.values())), plan.site):
        return directions
    return {**directions, str(plan.feature): registered}


def site_of(feature: str | None, n_layers: int) -> Site:
    """The site of the gallery's differences of means: that of the registered feature, so that both differ in nothing else.

    Above half-way where there is no feature, or it is no direction of such a model.

    Args:
        feature: its registered name.
        n_layers: of the model.
    """
    registered = None if feature is None else find_feature(feature).target.as_direction()
    if registered is None or registered.site.layer >= n_layers:
        return site_above_half_way(n_layers)
    return registered.site
