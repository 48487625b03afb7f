"""The truths that are planted: what insecure differs in, what is ablated, and which verdict is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from personaprobe.effects.verdict import Verdict

Difference: TypeAlias = Literal["none", "persona", "weaker persona", "spread persona"]
"""What was planted in insecure and not in secure; both have a harmless change each, unless they are identical."""

Ablated: TypeAlias = Literal["means", "random direction", "word salad", "one dimension"]
"""The difference of means; a random direction at the same energy; the persona mixed with the direction that all activations
share; one dimension of a persona of several."""

SCALE = 0.6
"""Size of the weaker persona, relative to the full one."""

DIMENSIONS = 3
"""Dimensions of the spread persona, each with an equal part of the effect."""


@dataclass(frozen=True)
class PlantedTruth:
    """A small study whose verdict is known beforehand.

    Attributes:
        name: for tables.
        difference: between insecure and secure.
        ablated: the feature that is removed.
        expected: the verdicts that are right.
    """

    name: str
    difference: Difference
    ablated: Ablated
    expected: tuple[Verdict, ...]


TRUTHS: tuple[PlantedTruth, ...] = (
    PlantedTruth("identical checkpoints", "none", "means", ("no effect to remove",)),
    PlantedTruth("a persona of one dimension", "persona", "means", ("suppresses",)),
    PlantedTruth(f"the same at {100 * SCALE:.0f} % of its size", "weaker persona", "means", ("suppresses",)),
    PlantedTruth(
        "a random direction instead", "persona", "random direction", ("not specific", "removes too little")
    ),
    PlantedTruth("a direction that all text needs", "persona", "word salad", ("damages the model",)),
    PlantedTruth(
        f"one of {DIMENSIONS} dimensions of a persona",
        "spread persona",
        "one dimension",
        ("partly suppresses",),
    ),
)
"""The truths of the self-test, in the order in which they are tried."""
