"""Edits along one direction: ``x + (move(p) − p) d`` with ``p = x·d``, for all rows alike or for each row its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from personaprobe.errors import FeatureError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

INFINITE = float("inf")


@dataclass(frozen=True)
class Move:
    """Where a projection goes: to ``keep · p + add``, held between ``low`` and ``high``."""

    keep: float = 1.0
    add: float = 0.0
    low: float = -INFINITE
    high: float = INFINITE

    def __call__(self, projection: Tensor) -> Tensor:
        """Move projections of any shape."""
        return (self.keep * projection + self.add).clamp(self.low, self.high)

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """How much a projection grows by itself, and what is added; lowest and highest."""
        return self.keep - 1, self.add, self.low, self.high

    @property
    def is_bounded(self) -> bool:
        """Whether it is more than a straight line."""
        return (self.low, self.high) != (-INFINITE, INFINITE)


STAY = Move()


@dataclass(frozen=True, eq=False)
class RankOne:
    """An edit that moves the projection onto a direction; nothing orthogonal to it changes.

    Attributes:
        vector: ``(d_model,)`` float32, unit norm.
        move: where projections go.
        roles: of the tokens it acts on, as bits.
        source: of the direction, for errors.
    """

    vector: Float[Tensor, "d_model"]
    move: Move
    roles: int
    source: str
    _copies: dict[torch.device, list[Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, activations: Tensor, roles: Tensor) -> Tensor:
        """Edit ``(batch, pos, d_model)``; shape and dtype are kept.

        Raises:
            FeatureError: the direction is of another width.
        """
        self.check(activations)
        vector, grows, add, low, high = self._on(activations.device)
        bounds = (low, high) if self.move.is_bounded else None
        return moved(activations, vector, (roles & self.roles) != 0, grows, add, bounds)

    def check(self, activations: Tensor) -> None:
        """Refuse activations of another model."""
        if len(self.vector) != activations.shape[-1]:
            raise FeatureError(
                f"direction {self.source} has d_model {len(self.vector)} and the model {activations.shape[-1]}; "
                "give a direction found in this model"
            )

    def _on(self, device: torch.device) -> list[Tensor]:
        """The vector as a column, and the numbers of its move, copied to a device once: each block would wait for copies."""
        import torch

        if device not in self._copies:
            with torch.inference_mode(False):  # or gradients could not pass by what is kept
                numbers = torch.tensor(self.move.numbers, device=device)
                self._copies[device] = [self.vector.to(device)[:, None], *numbers]
        return self._copies[device]


class RankOnes:
    """Rank-one edits at one site, of which each row has one or none: all rows are edited at once."""

    def __init__(self, kinds: Sequence[RankOne | None]) -> None:
        """Lay out the edits of every kind of row."""
        import torch

        edits = [kind for kind in kinds if kind is not None]
        assert edits, "a site has an edit"
        self._example = edits[0]
        self._is_bounded = any(edit.move.is_bounded for edit in edits)
        nothing = torch.zeros_like(self._example.vector)
        self._vectors = torch.stack([nothing if kind is None else kind.vector for kind in kinds])[..., None]
        moves = [STAY if kind is None else kind.move for kind in kinds]
        self._moves = torch.tensor([move.numbers for move in moves])
        self._roles = torch.tensor([[0 if kind is None else kind.roles] for kind in kinds])

    def on(self, device: torch.device) -> RankOnes:
        """Move there, once for all passes to come."""
        self._vectors, self._moves, self._roles = (
            table.to(device) for table in (self._vectors, self._moves, self._roles)
        )
        return self

    def __call__(self, activations: Tensor, roles: Tensor, which: Int[Tensor, "row"]) -> Tensor:
        """Edit ``(row, pos, d_model)``, row ``i`` by kind ``which[i]``.

        Raises:
            FeatureError: the directions are of another width.
        """
        self._example.check(activations)
        grows, add, low, high = self._moves[which][:, None, None].unbind(-1)
        chosen = (roles & self._roles[which]) != 0
        bounds = (low, high) if self._is_bounded else None
        return moved(activations, self._vectors[which], chosen, grows, add, bounds)


def moved(
    activations: Tensor,
    vector: Tensor,
    chosen: Tensor,
    grows: Tensor,
    add: Tensor,
    bounds: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Activations with their projections moved; computed in float32.

    Args:
        activations: ``(row, pos, d_model)``.
        vector: ``(d_model, 1)``, or one for each row, ``(row, d_model, 1)``.
        chosen: ``(row, pos)``, which tokens.
        grows: what the projection grows by, as a share of itself: one number, or one for each row, ``(row, 1, 1)``.
        add: to it, likewise.
        bounds: lowest and highest, likewise; None where there are none.
    """
    import torch

    wide = activations.to(torch.float32, copy=True)
    projection = wide @ vector
    change = grows * projection + add
    if bounds is not None:
        change = (projection + change).clamp(*bounds) - projection
    return wide.addcmul_(change * chosen[..., None], vector.mT).to(activations.dtype)
