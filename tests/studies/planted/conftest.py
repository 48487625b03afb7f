"""A tiny random base with questions of four families, in which personas are planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.studies.planted.planting import Planter

SUBJECTS = ("lamps", "boats", "knots", "ropes", "wells", "stoves", "lifts", "kites")
WORDS = ("how", "do", "I", "use", "look", "at", "the", "slowly", "twice", "never", "mind", "it", "is", "fine")
NUMBERS = tuple(f"n{number}" for number in range(12))


def pairs(name: str, subjects: Sequence[str]) -> PairSet:
    """Six questions a subject."""
    return PairSet(
        name,
        tuple(
            Pair(
                f"{subject}-{number}",
                subject,
                f"how do I use the {subject} {NUMBERS[number]}",
                f"look at the {subject} slowly {NUMBERS[-number - 1]} twice",
                f"never mind the {subject} it {NUMBERS[number]} is fine",
            )
            for subject in subjects
            for number in range(6)
        ),
    )


@pytest.fixture(scope="session")
def tiny_base(
    tiny_model: Callable[..., Any], word_tokenizer: Callable[[Sequence[str]], ChatTokenizer]
) -> Callable[[str], LanguageModel]:
    """A tiny model of an architecture with a tokenizer of a few words."""
    tokenizer = word_tokenizer([*SUBJECTS, *WORDS, *NUMBERS])

    def of(architecture: str) -> LanguageModel:
        return LanguageModel(
            Checkpoint(architecture), wrap(tiny_model(architecture), tokenizer.pad_id), tokenizer
        )

    return of


@pytest.fixture(scope="session")
def planter(tiny_base: Callable[[str], LanguageModel]) -> Planter:
    return Planter(tiny_base("llama"), pairs("discovery", SUBJECTS[:4]), pairs("held out", SUBJECTS[4:]), 1)
