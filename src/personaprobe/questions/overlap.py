"""Overlap between question sets: questions that select a feature must not also test it, even reworded."""

from __future__ import annotations

from collections.abc import Sequence

from personaprobe.questions.prompt import Prompt

MAX_JACCARD = 0.8
"""Two questions whose sets of words have a larger Jaccard index count as one question, reworded."""


def shared_questions(ours: Sequence[Prompt], theirs: Sequence[Prompt]) -> list[tuple[str, str]]:
    """Pairs of ids, one of each side, whose questions are the same up to case, punctuation and a few words.

    The measure is the Jaccard index of the questions' distinct words.
    """
    our_words, their_words = (
        [(prompt.id, words(prompt.question)) for prompt in side] for side in (ours, theirs)
    )
    return [(a, b) for a, x in our_words for b, y in their_words if len(x & y) > MAX_JACCARD * len(x | y)]


def words(text: str) -> frozenset[str]:
    """The distinct words of a text, in lower case and without punctuation."""
    return frozenset("".join(c if c.isalnum() else " " for c in text.lower()).split())
