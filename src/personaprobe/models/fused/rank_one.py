"""Edits of rank one in one pass over many rows, as a compiler makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits import rank_one
from personaprobe.models.fused.elementwise import MIN_ROWS, compiled_kernel

if TYPE_CHECKING:
    from torch import Tensor

PLAIN = rank_one.moved
NAME = PLAIN.__name__


class FusedEdits:
    """The function by which edits of rank one move projections."""

    def __init__(self, *, compiles: bool = False) -> None:
        """Without a compiler it stays as it is."""
        self._compiles = compiles

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let edits be made so; those of any other model are the same meanwhile."""
        before = rank_one.moved
        setattr(rank_one, NAME, _moved if self._compiles else before)
        try:
            yield
        finally:
            setattr(rank_one, NAME, before)


def _moved(activations: Tensor, *others: Any) -> Tensor:
    import torch

    many = activations.shape[0] * activations.shape[1] >= MIN_ROWS and not torch.is_grad_enabled()
    found: Tensor = (compiled_kernel(PLAIN) if many else PLAIN)(activations, *others)
    return found
