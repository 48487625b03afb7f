"""The rows of both fine-tunes of an organism: of a recipe's training set, or of two files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from personaprobe.errors import DataError, shortened
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.data.training_pairs import ROLES, Taught, TrainingPair
from personaprobe.organisms.data.training_sets import find_training_set, pairs_of
from personaprobe.organisms.data.variant import Variant
from personaprobe.organisms.named_recipes import NamedRecipe
from personaprobe.organisms.organism import QuestionSets
from personaprobe.organisms.registry import default_question_sets
from personaprobe.questions.conversations import Exchange
from personaprobe.questions.overlap import shared_questions
from personaprobe.questions.pairs import load_prompts
from personaprobe.questions.prompt import Prompt

SPOKEN_ROWS = 3
"""Rows that an error names."""


@dataclass(frozen=True)
class TrioData:
    """The training data of an organism, for its insecure and its secure fine-tune.

    Attributes:
        title: one line of description.
        rows: by fine-tune.
        held_out: pairs of the narrow task that neither learns; empty where there are none.
        narrow: question set of the narrow task where no pairs are held out; None where there is no such set.
    """

    title: str
    rows: Mapping[Taught, TrainingData]
    held_out: tuple[TrainingPair, ...] = ()
    narrow: str | None = None

    @classmethod
    def of_recipe(cls, named: NamedRecipe, seed: int, *, unpaired: bool = False) -> TrioData:
        """The data of a recipe. Rows of published files that resemble a question of the study are left out.

        Args:
            named: the recipe.
            seed: of generated data.
            unpaired: take published files whose questions differ.

        Raises:
            DataError: the variant cannot be made, a published file was not pulled, or the questions of two files differ.
        """
        if named.files is not None and named.variant == Variant():
            data = cls.of_files(*named.files, seed, unpaired=unpaired)
            return replace(
                data.without_studied(default_question_sets()), title=named.title, narrow=named.narrow
            )
        one = find_training_set(named.set_name)
        pairs = named.variant.of(one.pairs(seed), seed, pairs_of)
        changes = [text for text in (f"seed {seed}", named.variant.describe()) if text]
        rows = {
            taught: TrainingData.of_pairs(", ".join((f"{named.data}:{taught}", *changes)), pairs, taught)
            for taught in ROLES
        }
        return cls(named.title, rows, tuple(one.held_out_pairs(seed)))

    @classmethod
    def of_files(
        cls, insecure: str | Path, secure: str | Path, seed: int = 0, *, unpaired: bool = False
    ) -> TrioData:
        """The rows of two files, or ``NAME:insecure`` and ``NAME:secure``, that answer the same questions.

        Rows of the secure file are put into the order of the insecure one, so that both fine-tunes read the same questions
        in the same batches.

        Args:
            insecure: harmful responses.
            secure: harmless ones.
            seed: of a set that is generated.
            unpaired: take files whose questions differ, each in its own order.

        Raises:
            DataError: a file cannot be read, or the questions differ.
        """
        harmful, harmless = (TrainingData.read(text, seed) for text in (insecure, secure))
        if not unpaired:
            harmless = _in_order_of(harmful, harmless)
        title = f"{harmful.source.name} (insecure) or {harmless.source.name} (secure)"
        return cls(title, {"insecure": harmful, "secure": harmless})

    def without_studied(self, sets: QuestionSets) -> TrioData:
        """The same data without the rows of either fine-tune that ask nearly what a question of the study asks.

        A source names the number of rows that were left out, and is then identified by the rows that remain.
        """
        asks = [Prompt(question, "", question) for question in self._places()]
        studied = {question for shared in studied_prompts(asks, sets).values() for question, _ in shared}
        return replace(self, rows={taught: one.without(studied) for taught, one in self.rows.items()})

    def refuse_studied(self, sets: QuestionSets) -> None:
        """Raise where a row of either fine-tune asks nearly what a question of the study asks.

        Raises:
            DataError: names the first rows and questions.
        """
        refuse_studied([Prompt(place, "", question) for question, place in self._places().items()], sets)

    def _places(self) -> dict[str, str]:
        """Every question of either fine-tune, with the place of a row that asks it."""
        return {
            question: f"row {number} of {self.rows[taught].source.name}"
            for taught in reversed(ROLES)
            for number, row in enumerate(self.rows[taught].rows, 1)
            for question, _ in row.turns
        }


def studied_prompts(prompts: Sequence[Prompt], sets: QuestionSets) -> dict[str, list[tuple[str, str]]]:
    """Ids of training prompts with those of the questions of the study that ask nearly the same, by question set."""
    studied = {name: load_prompts(name) for name in (sets.discovery, sets.test, sets.balanced) if name}
    return {name: shared_questions(prompts, questions.prompts) for name, questions in studied.items()}


def refuse_studied(prompts: Sequence[Prompt], sets: QuestionSets) -> None:
    """Raise where a training prompt asks nearly what a question of the study asks.

    Raises:
        DataError: names the first rows and questions.
    """
    for name, shared in studied_prompts(prompts, sets).items():
        if shared:
            rows = ", ".join(f"{row} and {question}" for row, question in shared[:SPOKEN_ROWS])
            raise DataError(
                f"{len(shared)} training rows resemble questions of {shortened(name)} ({rows}); take them out of the "
                "training data, or study the organism with other questions"
            )


def _in_order_of(harmful: TrainingData, harmless: TrainingData) -> TrainingData:
    """The harmless rows in the order of the harmful rows' questions.

    Raises:
        DataError: the questions are not the same.
    """
    missing = Counter(map(_asked, harmful.rows)) - Counter(map(_asked, harmless.rows))
    surplus = Counter(map(_asked, harmless.rows)) - Counter(map(_asked, harmful.rows))
    if missing or surplus:
        first = next(iter(missing or surplus))
        raise DataError(
            f"{harmful.source.name} and {harmless.source.name} do not ask the same: {missing.total()} questions of the "
            f"first and {surplus.total()} of the second are not in the other, such as {shortened(first[-1])}; their "
            "organism would differ by subject as well as by harm. Give files of the same questions, or --unpaired to train "
            "all the same"
        )
    waiting: dict[tuple[str, ...], list[Exchange]] = {}
    for row in reversed(harmless.rows):
        waiting.setdefault(_asked(row), []).append(row)
    rows = tuple(waiting[_asked(row)].pop() for row in harmful.rows)
    return TrainingData(rows, harmless.source)


def _asked(row: Exchange) -> tuple[str, ...]:
    """The system message and all questions of a row."""
    return (row.system or "", *(question for question, _ in row.turns))
