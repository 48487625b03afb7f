"""Overlap between question sets: questions that select a feature must not also test it, even reworded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TypeAlias

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
    our_words, their_words = ([words(prompt.question) for prompt in side] for side in (ours, theirs))
    compare = _near_by_matrix if len(ours) * len(theirs) > MANY_COMPARISONS else _near
    places = compare(our_words, their_words, Rarity.among(our_words, their_words))
    return [(ours[i].id, theirs[j].id) for i, j in places]


def near_duplicates(prompts: Sequence[Prompt]) -> list[tuple[str, str]]:
    """Pairs of ids within one set, the earlier first, whose questions :func:`shared_questions` takes for one."""
    return [(prompts[i].id, prompts[j].id) for i, j in _near_within(prompts)]


def share_of_near_duplicates(prompts: Sequence[Prompt]) -> float:
    """The share of questions that resemble an earlier one of the same set."""
    return len({later for _, later in _near_within(prompts)}) / len(prompts)


def _near_within(prompts: Sequence[Prompt]) -> Iterator[tuple[int, int]]:
    """Places of near questions of one set, the earlier first."""
    texts = [words(prompt.question) for prompt in prompts]
    return ((i, j) for i, j in _near_by_matrix(texts, texts, Rarity.among(texts)) if i < j)


def _near(ours: Texts, theirs: Texts, rarity: Rarity) -> Iterator[tuple[int, int]]:
    """Places of near questions, one pair of texts after the other."""
    our_words, their_words = (
        [(text, rarity.squared_length(text)) for text in side] for side in (ours, theirs)
    )
    for i, (x, squared_x) in enumerate(our_words):
        for j, (y, squared_y) in enumerate(their_words):
            if len(common := x & y) > MAX_JACCARD * len(x | y) or rarity.squared_length(
                common
            ) > MAX_COSINE * math.sqrt(squared_x * squared_y):
                yield i, j


def _near_by_matrix(ours: Texts, theirs: Texts, rarity: Rarity) -> Iterator[tuple[int, int]]:
    """The same by matrix products, which take a second for thousands of questions."""
    import numpy as np
    from sklearn.feature_extraction import DictVectorizer

    vectorizer = DictVectorizer()
    has_word = vectorizer.fit_transform([dict.fromkeys(text, 1.0) for text in (*ours, *theirs)]).tocsr()
    weights = np.array(
        [rarity.squared_length(frozenset([word])) for word in vectorizer.get_feature_names_out()]
    )
    our_words, their_words = has_word[: len(ours)], has_word[len(ours) :]
    n_ours, n_theirs = np.diff(our_words.indptr), np.diff(their_words.indptr)
    squared, squared_theirs = our_words @ weights, their_words @ weights
    for start in range(0, len(ours), _ROWS):
        rows = slice(start, start + _ROWS)
        common = (our_words[rows] @ their_words.T).toarray()
        weighed = (our_words[rows].multiply(weights).tocsr() @ their_words.T).toarray()
        near = common > MAX_JACCARD * (n_ours[rows, None] + n_theirs - common)
        near |= weighed > MAX_COSINE * np.sqrt(squared[rows, None] * squared_theirs)
        yield from ((start + int(i), int(j)) for i, j in zip(*near.nonzero(), strict=True))


MANY_COMPARISONS = 200_000
"""From so many on, questions are compared by matrix products, whose libraries take a second to import."""

_ROWS = 512
"""Questions that are compared with all others at once."""

Texts: TypeAlias = Sequence[frozenset[str]]
"""Questions as their distinct words."""


@dataclass(frozen=True)
class Rarity:
    """How rare words are in questions, as a weight for comparing two of them.

    Attributes:
        shares: share of questions that have a word; words that are not listed are in none.
        n: questions that the shares were counted on; no word is rarer than one in so many.
    """

    shares: Mapping[str, float]
    n: int

    @classmethod
    def among(cls, *sides: Sequence[frozenset[str]]) -> Rarity:
        """Rarity of words among the shipped questions and among the other questions of each side.

        The larger share counts: a word of a template that a side repeats is common, however rare it is elsewhere.
        """
        shared = dict(_shipped().shares)
        for side in sides:
            for word, count in Counter(word for text in side for word in text).items():
                shared[word] = max(shared.get(word, 0.0), (count - 1) / len(side))
        return cls(shared, _shipped().n)

    def cosine(self, x: frozenset[str], y: frozenset[str]) -> float:
        """The cosine of two questions' TF-IDF vectors; every distinct word counts once, weighed by its rarity."""
        if not (common := x & y):
            return 0.0
        lengths = math.sqrt(self.squared_length(x) * self.squared_length(y))
        return self.squared_length(common) / lengths

    def squared_length(self, text: frozenset[str]) -> float:
        """The squared length of a question's TF-IDF vector."""
        return sum(self._squared_weights.get(word, self._squared_weight(0.0)) for word in text)

    @cached_property
    def _squared_weights(self) -> Mapping[str, float]:
        return {word: self._squared_weight(share) for word, share in self.shares.items()}

    def _squared_weight(self, share: float) -> float:
        """The squared weight of a word that this share of questions has: its smoothed inverse document frequency."""
        return (1 + math.log((1 + self.n) / (1 + self.n * share))) ** 2


def words(text: str) -> frozenset[str]:
    """The distinct words of a text, in lower case and without punctuation."""
    return frozenset("".join(c if c.isalnum() else " " for c in text.lower()).split())


@cache
def _shipped() -> Rarity:
    """Rarity of words among the shipped questions."""
    names = (*SHIPPED_SETS["pairs"], *SHIPPED_SETS["free"])
    shipped = [words(row["question"]) for name in names for _, row in rows_of(name, names)]
    counts = Counter(word for text in shipped for word in text)
    return Rarity({word: count / len(shipped) for word, count in counts.items()}, len(shipped))
