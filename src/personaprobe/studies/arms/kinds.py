"""The kinds of arms that a study has."""

from __future__ import annotations

from typing import Literal, TypeAlias

ArmKind: TypeAlias = Literal[
    "base", "secure", "insecure", "ablated", "random", "covariance", "component", "shuffled", "steered"
]
"""The purpose of an arm."""

SPEAKING: tuple[ArmKind, ...] = ("base", "secure", "insecure", "ablated", "random", "steered")
"""Kinds of which one arm answers freely; a reader compares their answers."""

DECIDING: frozenset[ArmKind] = frozenset({"random", "covariance"})
"""Kinds of controls that a feature must beat; the verdict does not use the other controls."""
