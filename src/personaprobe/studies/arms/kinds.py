"""The kind of an arm is its purpose in a study."""

from __future__ import annotations

from typing import Literal, TypeAlias

ArmKind: TypeAlias = Literal[
    "base", "secure", "insecure", "ablated", "random", "covariance", "component", "shuffled", "steered"
]
"""The purpose of an arm: three untreated checkpoints, the feature's ablation, four kinds of controls, base steered."""

SPEAKING: tuple[ArmKind, ...] = ("base", "secure", "insecure", "ablated", "random", "steered")
"""Of each of these kinds one arm answers freely, so that a reader can compare answers."""

DECIDING: frozenset[ArmKind] = frozenset({"random", "covariance"})
"""Controls of these kinds must be beaten by a feature; the others are shown."""

SHOWN: frozenset[ArmKind] = frozenset({"component", "shuffled", "steered"})
"""Arms of these kinds decide nothing; they answer half of the questions that deciding controls answer."""
