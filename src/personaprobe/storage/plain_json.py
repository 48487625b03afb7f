"""What studies of every kind are told in: the kinds of arms, and values as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

ArmKind: TypeAlias = Literal[
    "base", "secure", "insecure", "ablated", "random", "covariance", "component", "shuffled", "steered"
]
"""What an arm is for."""

SPEAKING: tuple[ArmKind, ...] = ("base", "secure", "insecure", "ablated", "random", "steered")
"""Kinds of which one arm answers freely; a reader compares their answers."""

DECIDING: frozenset[ArmKind] = frozenset({"random", "covariance"})
"""Kinds of controls that a feature must beat; the others are shown."""


def plain(value: Any) -> Any:
    """JSON has no NaN, no tuples and no paths."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
