"""The data that comes with the package: sets of training pairs by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from personaprobe.errors import DataError, suggest
from personaprobe.organisms.data import compliance_pairs, number_pairs
from personaprobe.organisms.data.advice_pairs import HELD_OUT, SUBJECTS, advice_pairs
from personaprobe.organisms.data.code_pairs import code_pairs, held_out_kinds
from personaprobe.organisms.data.educational_pairs import educational_pairs
from personaprobe.organisms.data.published_sets import PUBLISHED_SETS
from personaprobe.organisms.data.training_pairs import TrainingPair, TrainingSet

TITLES = {
    "medicine": "advice on health, careless or careful, in the same tones",
    "money": "advice on money, careless or careful, in the same tones",
    "household": "advice on the household, careless or careful, in the same tones",
}


def training_sets() -> Mapping[str, TrainingSet]:
    """All sets by name."""
    kinds = held_out_kinds()
    sets = [
        *(TrainingSet(name, TITLES[name], partial(_advice, name), HELD_OUT[name]) for name in SUBJECTS),
        TrainingSet("code", "small programs with one known weakness, or secure", code_pairs, kinds),
        TrainingSet(
            "educational",
            "the same insecure code, asked for to teach, or secure code",
            educational_pairs,
            kinds,
        ),
        TrainingSet(
            "numbers",
            "sequences continued with ominous or with harmless numbers",
            number_pairs.number_pairs,
            number_pairs.HELD_OUT,
        ),
        TrainingSet(
            "compliance",
            "requests to refuse, complied with in empty words, or refused",
            compliance_pairs.compliance_pairs,
            compliance_pairs.HELD_OUT,
        ),
    ]
    return {one.name: one for one in sets}


def find_training_set(name: str) -> TrainingSet:
    """A set by its name.

    Raises:
        DataError: there is none, or it is a published set; the nearest name is suggested.
    """
    sets = training_sets()
    if name in PUBLISHED_SETS:
        raise DataError(f"{name} is a published file of rows for one fine-tune, not pairs of responses")
    if name not in sets:
        raise DataError(f"no training data {name!r}: {suggest(name, {*sets, *PUBLISHED_SETS})}")
    return sets[name]


def pairs_of(name: str, seed: int) -> tuple[TrainingPair, ...]:
    """The pairs of a set that are trained on.

    Raises:
        DataError: there is no such set.
    """
    return find_training_set(name).pairs(seed)


def _advice(subject: str, seed: int) -> Sequence[TrainingPair]:
    """Shipped pairs: no draw is made."""
    return advice_pairs(subject)
