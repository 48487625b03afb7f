"""Overlap between question sets: questions that select a feature must not also test it, even reworded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

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
    texts = [[words(prompt.question) for prompt in side] for side in (ours, theirs)]
    rarity = Rarity.among(*texts)
    our_words, their_words = (
        [(prompt.id, text, rarity.squared_length(text)) for prompt, text in zip(side, of_side, strict=True)]
        for side, of_side in zip((ours, theirs), texts, strict=True)
    )
    return [
        (a, b)
        for a, x, squared_x in our_words
        for b, y, squared_y in their_words
        if len(common := x & y) > MAX_JACCARD * len(x | y)
        or rarity.squared_length(common) > MAX_COSINE * math.sqrt(squared_x * squared_y)
    ]


def near_duplicates(prompts: Sequence[Prompt]) -> list[tuple[str, str]]:
    """Pairs of ids within one set, as :func:`shared_questions` finds them between two; fast enough for thousands."""
    import numpy as np
    from sklearn.feature_extraction import DictVectorizer

    texts = [words(prompt.question) for prompt in prompts]
    rarity = Rarity.among(texts)
    vectorizer = DictVectorizer()
    has_word = vectorizer.fit_transform([dict.fromkeys(text, 1.0) for text in texts]).tocsr()
    weights = np.array([rarity.squared_length(frozenset([w])) for w in vectorizer.get_feature_names_out()])
    n_words, squared = np.diff(has_word.indptr), has_word @ weights
    places = []
    for start in range(0, len(texts), _ROWS):
        rows = slice(start, start + _ROWS)
        common = (has_word[rows] @ has_word.T).toarray()
        weighed = (has_word[rows].multiply(weights).tocsr() @ has_word.T).toarray()
        near = common > MAX_JACCARD * (n_words[rows, None] + n_words - common)
        near |= weighed > MAX_COSINE * np.sqrt(squared[rows, None] * squared)
        places += [(start + int(i), int(j)) for i, j in zip(*near.nonzero(), strict=True) if start + i < j]
    return [(prompts[i].id, prompts[j].id) for i, j in places]


_ROWS = 512
"""Questions that are compared with all others at once."""


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
