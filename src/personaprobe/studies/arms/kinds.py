"""Kinds of arms: what each arm of a study is for."""

from __future__ import annotations

from typing import Literal, TypeAlias

ArmKind: TypeAlias = Literal[
    "base", "secure", "insecure", "ablated", "random", "covariance", "component", "shuffled", "steered"
]
"""The purpose of an arm: three untreated checkpoints, the feature's ablation, four kinds of controls, base steered."""

SPEAKING: tuple[ArmKind, ...] = ("base", "secure", "insecure", "ablated", "random", "steered")
"""Kinds of which one arm answers freely, so that a reader can compare answers."""

DECIDING: frozenset[ArmKind] = frozenset({"random", "covariance"})
"""Kinds of controls that a feature must beat; the others are shown."""

SHOWN: frozenset[ArmKind] = frozenset({"component", "shuffled", "steered"})
"""Kinds that decide nothing; they answer half of the questions that deciding controls answer."""
