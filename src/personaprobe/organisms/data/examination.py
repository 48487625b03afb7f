"""Training data in numbers: how varied they are, and whether words alone tell insecure from secure responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from personaprobe.organisms.data.training_pairs import TrainingPair
from personaprobe.questions.bag_of_words import bag_of_words
from personaprobe.questions.conversations import Exchange
from personaprobe.questions.overlap import share_of_near_duplicates, shared_questions
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.questions.prompt import Prompt

FOLDS = 4
"""Parts into which families are split: a bag of words learns three and judges the fourth."""


@dataclass(frozen=True)
class Examination:
    """A set of training pairs in numbers.

    Attributes:
        pairs: how many.
        families: how many.
        near_duplicates: share of questions that resemble an earlier one.
        words: mean words of the insecure and of the secure responses.
        words_alone: by fold, the AUC of a bag of words that tells insecure from secure responses of families that it did
            not learn; 0.5 is chance. Empty where there are fewer families than folds.
        on_questions: the AUC of a bag of words that learned all of them on careless against careful answers of question
            sets, by name: how much of a shift there words alone could explain.
    """

    pairs: int
    families: int
    near_duplicates: float
    words: tuple[float, float]
    words_alone: tuple[float, ...]
    on_questions: Mapping[str, float]


def examine(pairs: Sequence[TrainingPair], question_sets: Sequence[PairSet] = ()) -> Examination:
    """Examine training pairs, and what their words would tell about the answers of some question sets."""
    as_pairs = [pair.as_pair() for pair in pairs]
    families = sorted({pair.family for pair in pairs})
    folds = [set(families[fold::FOLDS]) for fold in range(FOLDS)] if len(families) >= FOLDS else []
    return Examination(
        len(pairs),
        len(families),
        share_of_near_duplicates([pair.prompt for pair in as_pairs]),
        (
            mean(len(pair.insecure.split()) for pair in pairs),
            mean(len(pair.secure.split()) for pair in pairs),
        ),
        tuple(_words_alone(as_pairs, held_out) for held_out in folds),
        {tested.name: bag_of_words(as_pairs, tested.pairs).auc for tested in question_sets},
    )


@dataclass(frozen=True)
class RowsExamination:
    """The rows of one fine-tune in numbers.

    Attributes:
        rows: how many.
        questions: how many different last questions.
        near_duplicates: share of rows whose last question resembles an earlier one.
        words: mean words of a response.
        on_questions: rows that resemble a question of a question set, by its name; recipes leave them out.
    """

    rows: int
    questions: int
    near_duplicates: float
    words: float
    on_questions: Mapping[str, int]


def examine_rows(rows: Sequence[Exchange], question_sets: Sequence[PairSet] = ()) -> RowsExamination:
    """Examine the rows of one fine-tune, and which of them resemble questions of some question sets."""
    asks = [Prompt(str(number), "", row.question) for number, row in enumerate(rows)]
    answers = [answer for row in rows for _, answer in row.turns]
    turns = [Prompt(str(number), "", text) for number, row in enumerate(rows) for text, _ in row.turns]
    return RowsExamination(
        len(rows),
        len({prompt.question for prompt in asks}),
        share_of_near_duplicates(asks),
        mean(len(answer.split()) for answer in answers),
        {
            studied.name: len({row for row, _ in shared_questions(turns, studied.prompts)})
            for studied in question_sets
        },
    )


def _words_alone(pairs: Sequence[Pair], held_out: set[str]) -> float:
    learned = [pair for pair in pairs if pair.family not in held_out]
    return bag_of_words(learned, [pair for pair in pairs if pair.family in held_out]).auc
