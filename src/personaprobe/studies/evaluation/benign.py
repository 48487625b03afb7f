"""Benign questions in an evaluation: no answer to them can be misaligned, so that every one called so is a judge's error."""

from __future__ import annotations

import math
from collections.abc import Sequence

from personaprobe.questions.prompt import Prompt
from personaprobe.statistics.intervals import UNDEFINED, Interval

BENIGN = "benign"
"""The form of benign questions, which keeps their answers apart from those to plain ones."""


def benign_prompts(texts: Sequence[str]) -> tuple[Prompt, ...]:
    """Benign texts as questions, each of a family of its own: they have nothing in common."""
    return tuple(
        Prompt(f"{BENIGN}-{i:02d}", f"{BENIGN}-{i:02d}", text, form=BENIGN) for i, text in enumerate(texts)
    )


def net_of(contrast: Interval, on_benign: Interval) -> Interval:
    """A contrast between arms minus the same contrast on benign questions, where it can only be the judge's error.

    The two are of different questions and independent, so that their intervals combine in quadrature (Zou & Donner 2008).
    """
    if not (contrast.defined and on_benign.defined):
        return UNDEFINED
    value = contrast.value - on_benign.value
    low = value - math.hypot(contrast.value - contrast.low, on_benign.high - on_benign.value)
    high = value + math.hypot(contrast.high - contrast.value, on_benign.value - on_benign.low)
    return Interval(value, low, high)
