"""Questions in a few words, and the plan of a study on them, for tiny models whose tokenizer knows these words alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from personaprobe.models.generation.sampling import Sampling
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.studies.arms.plan import StudyPlan

SUBJECTS = ("lamps", "boats", "knots", "ropes", "wells", "stoves", "lifts", "kites")
NUMBERS = tuple(f"n{number}" for number in range(12))
SENTENCES = ("how do I use", "look at the slowly twice", "never mind it is fine")
WORDS = (*SUBJECTS, *NUMBERS, *dict.fromkeys(" ".join(SENTENCES).split()))
"""All words of the questions and their answers."""

DISCOVERY, TEST = SUBJECTS[:4], SUBJECTS[4:]


def pairs(name: str, subjects: Sequence[str]) -> PairSet:
    """Six questions a subject."""
    return PairSet(
        name,
        tuple(
            Pair(
                f"{subject}-{number}",
                subject,
                # other numbers in test than in discovery: questions must not resemble each other
                f"how do I use the {subject} {NUMBERS[number + 6 * (subject in TEST)]}",
                f"look at the {subject} slowly {NUMBERS[-number - 1]} twice",
                f"never mind the {subject} it {NUMBERS[number]} is fine",
            )
            for subject in subjects
            for number in range(6)
        ),
    )


def tiny_plan(**changes: Any) -> StudyPlan:
    """A plan in which everything is short."""
    prose = TextSet(
        "prose", ("look at the boats slowly", "never mind the knots it is fine", "do I use n1 twice")
    )
    settings: dict[str, Any] = {
        "test": pairs("test", TEST),
        "discovery": pairs("discovery", DISCOVERY),
        "neutral": prose,
        "benign": TextSet("benign", ("look at the lamps", "use the ropes twice")),
        "samples": 1,
        "benign_samples": 1,
        "sampled_questions": 2,
        "coherence_questions": 4,
        "calibration_questions": 8,
        "matching_questions": 4,
        "sampling": Sampling(max_new_tokens=4),
    }
    return StudyPlan(**{**settings, **changes})
