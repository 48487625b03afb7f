"""Whether two questions are the same but for their wording: what selects must not also judge."""

from __future__ import annotations

from collections.abc import Sequence

from personaprobe.questions.free import Ask

NEAR = 0.8
"""Share of their words that two questions may have in common; above it they are one question reworded."""


def alike(own: Sequence[Ask], others: Sequence[Ask]) -> list[tuple[str, str]]:
    """Ids of questions that both sides ask: the same text, the same but for case and punctuation, or nearly so.

    Nearly the same are two questions of which more than four fifths of all distinct words stand in both (Jaccard).
    """
    ours, theirs = ([(ask.id, words(ask.question)) for ask in side] for side in (own, others))
    return [(a, b) for a, x in ours for b, y in theirs if len(x & y) > NEAR * len(x | y)]


def words(text: str) -> frozenset[str]:
    """The distinct words of a text, without case and punctuation."""
    return frozenset("".join(c if c.isalnum() else " " for c in text.lower()).split())
