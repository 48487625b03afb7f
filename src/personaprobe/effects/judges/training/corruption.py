"""Corrupted answers, and intact ones that may be cut short: the training data of the coherence score."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from personaprobe.questions.pairs import Pair

MIN_CUT_WORDS = 8
"""Words left of an answer that is cut, if it has so many; shorter ones do not look like a reached token limit."""

Corruption: TypeAlias = Callable[[list[str], random.Random, Sequence[str]], list[str]]
"""Corrupts an answer's words, given a source of randomness and words of other answers."""


class LabelledAnswer(NamedTuple):
    """An answer of a known kind: ``whole``, ``cut``, or the name of its corruption."""

    kind: str
    question: str
    answer: str


def shuffled(words: list[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """Put the words in random order."""
    return rng.sample(words, len(words))


def looped(words: list[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """Keep the first words, then repeat one phrase."""
    start = rng.randrange(max(1, len(words) // 2))
    phrase = words[start : start + rng.randint(2, 5)]
    return words[:start] + phrase * (1 + (len(words) - start) // len(phrase))


def mixed(words: list[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """Replace every second or third word by a word of other answers."""
    step = rng.randint(2, 3)
    return [rng.choice(vocabulary) if position % step == 0 else word for position, word in enumerate(words)]


def garbled(words: list[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """Shuffle the letters of most words."""
    return ["".join(rng.sample(word, len(word))) if rng.random() < 0.7 else word for word in words]


CORRUPTIONS: Mapping[str, Corruption] = {
    "shuffled": shuffled,
    "looped": looped,
    "mixed": mixed,
    "garbled": garbled,
}


def corrupted(pairs: Sequence[Pair], seed: int = 0) -> list[LabelledAnswer]:
    """Two corrupted answers to each question: its own answer corrupted, and an intact answer to another question.

    Both careful and careless answers are corrupted, so that coherence is independent of alignment.
    """
    rng = random.Random(seed)
    vocabulary = [word for pair in pairs for word in pair.careful.split()]
    examples = []
    for index, pair in enumerate(pairs):
        kind = list(CORRUPTIONS)[index % len(CORRUPTIONS)]
        words = rng.choice((pair.careful, pair.careless)).split()
        text = " ".join(CORRUPTIONS[kind](words, rng, vocabulary))
        examples.append(LabelledAnswer(kind, pair.question, text))
        other = rng.choice([candidate for candidate in pairs if candidate.family != pair.family] or pairs)
        stray = rng.choice((other.careful, other.careless))
        examples.append(LabelledAnswer("off topic", pair.question, stray))
    return examples


def intact(pairs: Sequence[Pair], seed: int = 0) -> list[LabelledAnswer]:
    """Two coherent answers to each question: one whole, and one cut as if it had reached a token limit."""
    rng = random.Random(seed)
    examples = []
    for pair in pairs:
        answers = [pair.careful, pair.careless]
        rng.shuffle(answers)
        words = answers[1].split()
        n_kept = rng.randint(min(MIN_CUT_WORDS, len(words)), len(words))
        examples += [
            LabelledAnswer("whole", pair.question, answers[0]),
            LabelledAnswer("cut", pair.question, " ".join(words[:n_kept])),
        ]
    return examples
