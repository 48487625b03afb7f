"""Rank-one edits of many rows in one pass, compiled by ``torch.compile``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personaprobe.models.edits.rank_one import edit_projection
from personaprobe.models.fused.elementwise import MIN_ROWS, compiled_elementwise

if TYPE_CHECKING:
    from torch import Tensor


def compiled_edit_projection(activations: Tensor, *others: Any) -> Tensor:
    """:func:`~personaprobe.models.edits.rank_one.edit_projection`, compiled where there are many rows and no gradients."""
    import torch

    many = activations.shape[0] * activations.shape[1] >= MIN_ROWS and not torch.is_grad_enabled()
    edited: Tensor = (compiled_elementwise(edit_projection) if many else edit_projection)(
        activations, *others
    )
    return edited
