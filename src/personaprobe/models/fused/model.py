"""All parts of a model that are computed faster while it is busy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from personaprobe.models.fused.gated_mlp import FusedGates
from personaprobe.models.fused.packed_linear import PackedLinears, PackedWeights
from personaprobe.models.fused.qkv_projection import SharedProjections
from personaprobe.models.fused.rank_one import FusedEdits
from personaprobe.models.fused.rms_norm import FusedNorms
from personaprobe.models.fused.rotary import FusedRotations

if TYPE_CHECKING:
    from torch import nn


class FusedParts:
    """Norms, rotations, maps and MLPs of one model; what the model computes stays the same but for rounding."""

    def __init__(self, model: nn.Module, *, compiles: bool = False) -> None:
        """Elementwise work on many rows is compiled where that is asked for."""
        self._weights = PackedWeights()
        self._parts = (
            FusedNorms(model, compiles=compiles),
            FusedRotations(model, compiles=compiles),
            PackedLinears(model, self._weights),
            SharedProjections(model, self._weights),
            FusedGates(model, self._weights, compiles=compiles),
            FusedEdits(compiles=compiles),
        )
        self._uses = 0

    @property
    def bytes(self) -> int:
        """Memory that copies of weights take now."""
        return self._weights.bytes

    @contextmanager
    def used(self) -> Iterator[None]:
        """Compute faster inside; one use may lie within another, and the last drops the copies."""
        self._uses += 1
        try:
            with ExitStack() as stack:
                for part in self._parts if self._uses == 1 else ():
                    stack.enter_context(part.used())
                yield
        finally:
            self._uses -= 1
            if not self._uses:
                self.forget()

    def forget(self) -> None:
        """Drop copies of weights, as must be done whenever weights change."""
        self._weights.forget()
