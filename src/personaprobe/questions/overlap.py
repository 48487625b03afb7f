"""Overlap between question sets: questions that select a feature must not also test it, even reworded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from personaprobe.questions.prompt import Prompt
from personaprobe.questions.question_rows import SHIPPED_SETS, rows_of

MAX_JACCARD = 0.8
"""Two questions whose sets of words have a larger Jaccard index count as one question, reworded."""

MAX_COSINE = 0.6
"""So do two whose TF-IDF vectors have a larger cosine: they share the rare words that say what a question is about."""


def shared_questions(ours: Sequence[Prompt], theirs: Sequence[Prompt]) -> list[tuple[str, str]]:
    """Pairs of ids, one of each side, whose questions are the same up to case, punctuation and wording.

    Two measures find them: the Jaccard index of the questions' distinct words, and the cosine of their TF-IDF vectors.
    """
    our_words, their_words = (
        [(prompt.id, words(prompt.question)) for prompt in side] for side in (ours, theirs)
    )
    return [
        (a, b)
        for a, x in our_words
        for b, y in their_words
        if len(x & y) > MAX_JACCARD * len(x | y) or tfidf_cosine(x, y) > MAX_COSINE
    ]


def tfidf_cosine(x: frozenset[str], y: frozenset[str]) -> float:
    """The cosine of two questions' TF-IDF vectors; every distinct word counts once, weighed by its rarity.

    Rarity is that among the shipped questions; a word that none of them has is as rare as a word can be.
    """
    if not (common := x & y):
        return 0.0
    return _squares(common) / math.sqrt(_squares(x) * _squares(y))


def words(text: str) -> frozenset[str]:
    """The distinct words of a text, in lower case and without punctuation."""
    return frozenset("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _squares(text: frozenset[str]) -> float:
    """The squared length of a TF-IDF vector."""
    frequencies, n = _document_frequencies()
    return sum((1 + math.log((1 + n) / (1 + frequencies.get(word, 0)))) ** 2 for word in text)


@cache
def _document_frequencies() -> tuple[Mapping[str, int], int]:
    """The number of shipped questions that have each word, and the number of all of them."""
    names = (*SHIPPED_SETS["pairs"], *SHIPPED_SETS["free"])
    shipped = [words(row["question"]) for name in names for row in rows_of(name, names)]
    return Counter(word for text in shipped for word in text), len(shipped)
