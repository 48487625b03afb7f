"""How far a variant is from the reference, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def largest_difference(reference: Tensor, other: Tensor) -> str:
    """The largest absolute difference of two tensors of one shape, beside the largest value."""
    apart, largest = float((reference - other).abs().max()), float(reference.abs().max())
    return f"{apart:.1e} apart at most, values up to {largest:.3g}"


def equal_answers(reference: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]]) -> str:
    """How many answers have exactly the same tokens."""
    equal = sum(a == b for a, b in zip(reference, others, strict=True))
    return f"{equal} of {len(reference)} answers the same to the token"
