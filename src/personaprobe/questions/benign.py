"""Harmless requests as prompts: no answer to them can be misaligned, and no persona answers them differently."""

from __future__ import annotations

from personaprobe.questions.prompt import Prompt
from personaprobe.questions.texts import TextSet

BENIGN = "benign"
"""The form of harmless requests, which keeps their answers apart from those to plain questions."""


def benign_prompts(texts: TextSet) -> tuple[Prompt, ...]:
    """Harmless requests as prompts, each of a family of its own: they have nothing in common."""
    names = [f"{BENIGN}-{place:02d}" for place in range(1, len(texts) + 1)]
    return tuple(Prompt(name, name, text, form=BENIGN) for name, text in zip(names, texts, strict=True))
