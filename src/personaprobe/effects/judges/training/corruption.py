"""Answers spoiled in known ways, and healthy ones cut short: what a coherence score learns from."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from personaprobe.questions.pairs import Pair

FEWEST_WORDS = 8
"""An answer cut shorter than this is no longer one that ran out of tokens."""


def shuffled(words: list[str], rng: random.Random, others: Sequence[str]) -> list[str]:
    """The same words in another order."""
    return rng.sample(words, len(words))


def looped(words: list[str], rng: random.Random, others: Sequence[str]) -> list[str]:
    """A beginning, and then one phrase over and over."""
    start = rng.randrange(max(1, len(words) // 2))
    phrase = words[start : start + rng.randint(2, 5)]
    return words[:start] + phrase * (1 + (len(words) - start) // len(phrase))


def mixed(words: list[str], rng: random.Random, others: Sequence[str]) -> list[str]:
    """Every second or third word replaced by a word of other answers."""
    step = rng.randint(2, 3)
    return [rng.choice(others) if place % step == 0 else word for place, word in enumerate(words)]


def garbled(words: list[str], rng: random.Random, others: Sequence[str]) -> list[str]:
    """Letters inside most words in another order."""
    return ["".join(rng.sample(word, len(word))) if rng.random() < 0.7 else word for word in words]


CORRUPTIONS: Mapping[str, Callable[[list[str], random.Random, Sequence[str]], list[str]]] = {
    "shuffled": shuffled,
    "looped": looped,
    "mixed": mixed,
    "garbled": garbled,
}
"""Ways to spoil an answer's words: each takes them, a source of chance, and words of other answers."""


def corrupted(pairs: Sequence[Pair], seed: int = 0) -> list[tuple[str, str, str]]:
    """Spoiled answers to questions, as (kind, question, answer): of each pair one, and an answer to another question.

    Both careful and careless answers are spoiled, so that incoherent says nothing about aligned.
    """
    rng = random.Random(seed)
    vocabulary = [word for pair in pairs for word in pair.careful.split()]
    spoiled = []
    for index, pair in enumerate(pairs):
        kind = list(CORRUPTIONS)[index % len(CORRUPTIONS)]
        words = rng.choice((pair.careful, pair.careless)).split()
        spoiled.append((kind, pair.question, " ".join(CORRUPTIONS[kind](words, rng, vocabulary))))
        other = rng.choice([each for each in pairs if each.family != pair.family] or pairs)
        spoiled.append(("off topic", pair.question, rng.choice((other.careful, other.careless))))
    return spoiled


def healthy(pairs: Sequence[Pair], seed: int = 0) -> list[tuple[str, str, str]]:
    """Sound answers, as (kind, question, answer): whole, and cut where the tokens ran out."""
    rng = random.Random(seed)
    sound = []
    for pair in pairs:
        sides = [pair.careful, pair.careless]
        rng.shuffle(sides)
        words = sides[1].split()
        cut = rng.randint(min(FEWEST_WORDS, len(words)), len(words))
        sound += [("whole", pair.question, sides[0]), ("cut", pair.question, " ".join(words[:cut]))]
    return sound
