"""Training pairs in numbers: how varied they are, and whether words alone tell insecure from secure responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from personaprobe.organisms.data.training_pairs import TrainingPair
from personaprobe.questions.bag_of_words import bag_of_words
from personaprobe.questions.overlap import near_duplicates
from personaprobe.questions.pairs import Pair, PairSet

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
    near = near_duplicates([pair.prompt for pair in as_pairs])
    families = sorted({pair.family for pair in pairs})
    folds = [set(families[fold::FOLDS]) for fold in range(FOLDS)] if len(families) >= FOLDS else []
    return Examination(
        len(pairs),
        len(families),
        len({later for _, later in near}) / len(pairs),
        (
            mean(len(pair.insecure.split()) for pair in pairs),
            mean(len(pair.secure.split()) for pair in pairs),
        ),
        tuple(_words_alone(as_pairs, held_out) for held_out in folds),
        {tested.name: bag_of_words(as_pairs, tested.pairs).auc for tested in question_sets},
    )


def _words_alone(pairs: Sequence[Pair], held_out: set[str]) -> float:
    learned = [pair for pair in pairs if pair.family not in held_out]
    return bag_of_words(learned, [pair for pair in pairs if pair.family in held_out]).auc
