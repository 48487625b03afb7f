"""Row layouts: how the activations of the three checkpoints at one token become rows of training data."""

from __future__ import annotations

from typing import Literal, TypeAlias

from personaprobe.features.sae.dictionary import Dictionary

RowLayout: TypeAlias = Literal["mixed", "side by side", "difference"]
"""``mixed``: one row per checkpoint, for one dictionary of all three; ``side by side``: one row holds all three
activations, for a crosscoder; ``difference``: one row holds insecure − secure."""


def row_layout(dictionary: Dictionary) -> RowLayout:
    """The layout of the rows a dictionary was trained on, from its card.

    A dictionary of another library has no such entry and is taken as ``mixed``: it encodes single activations.
    """
    layout: RowLayout = dictionary.card.get("layout", "mixed")
    return layout
