"""Edits along one direction: ``x + (f(p) − p) d`` with ``p = x·d``, the same for all rows or one per row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from personaprobe.errors import FeatureError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

INFINITE = float("inf")

EditProjection: TypeAlias = "Callable[..., Tensor]"
"""A function with the signature of :func:`edit_projection`, such as its compiled form."""


@dataclass(frozen=True)
class AffineClamp:
    """A map of a projection: ``p`` becomes ``clamp(scale · p + shift, low, high)``."""

    scale: float = 1.0
    shift: float = 0.0
    low: float = -INFINITE
    high: float = INFINITE

    def __call__(self, projection: Tensor) -> Tensor:
        """Map projections of any shape."""
        return (self.scale * projection + self.shift).clamp(self.low, self.high)

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        """``(scale − 1, shift, low, high)``: the projection ``p`` becomes ``clamp(p + (scale − 1)·p + shift)``."""
        return self.scale - 1, self.shift, self.low, self.high

    @property
    def is_bounded(self) -> bool:
        """Whether ``low`` or ``high`` is finite."""
        return (self.low, self.high) != (-INFINITE, INFINITE)


IDENTITY = AffineClamp()


class ProjectionEdit(ABC):
    """An edit that is made of edits along directions, and can be given the function that computes them."""

    @abstractmethod
    def __call__(self, activations: Tensor, roles: Tensor, project: EditProjection | None = None) -> Tensor:
        """Edit ``(batch, pos, d_model)``; shape and dtype are kept.

        Args:
            activations: of one site.
            roles: ``(batch, pos)``.
            project: computes edits along a direction; None for :func:`edit_projection`.

        Raises:
            FeatureError: a direction has another width than the activations.
        """


@dataclass(frozen=True, eq=False)
class RankOneEdit(ProjectionEdit):
    """An edit that changes the projection onto a direction and nothing orthogonal to it.

    Two edits are equal when they have the same vector, map and roles, so that equal arms share cached prefixes.

    Attributes:
        vector: ``(d_model,)`` float32, unit norm.
        projection: the map of projections.
        roles: bits of the token roles that the edit applies to.
        source: name of the direction, for error messages.
    """

    vector: Float[Tensor, "d_model"]
    projection: AffineClamp
    roles: int
    source: str
    _on_device: dict[torch.device, list[Tensor]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _key(self) -> tuple[bytes, AffineClamp, int]:
        return self.vector.float().cpu().numpy().tobytes(), self.projection, self.roles

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, RankOneEdit) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    def __call__(self, activations: Tensor, roles: Tensor, project: EditProjection | None = None) -> Tensor:
        self.check(activations)
        vector, gain, shift, low, high = self._tensors(activations.device)
        bounds = (low, high) if self.projection.is_bounded else None
        selected = (roles & self.roles) != 0
        return (project or edit_projection)(activations, vector, selected, gain, shift, bounds)

    def check(self, activations: Tensor) -> None:
        """Refuse activations of another width than the direction."""
        if len(self.vector) != activations.shape[-1]:
            raise FeatureError(
                f"direction {self.source} has d_model {len(self.vector)} and the model {activations.shape[-1]}; "
                "give a direction found in this model"
            )

    def _tensors(self, device: torch.device) -> list[Tensor]:
        """The vector as a column and the four coefficients, on a device.

        They are copied once and kept: copying them in every block would make each block wait for the transfer.
        """
        import torch

        if device not in self._on_device:
            with torch.inference_mode(
                False
            ):  # tensors made in inference mode could not take part in gradients later
                coefficients = torch.tensor(self.projection.coefficients, device=device)
                self._on_device[device] = [self.vector.to(device)[:, None], *coefficients]
        return self._on_device[device]


class RankOneTable:
    """Rank-one edits of one site stacked by kind of row, so that one pass edits all rows of a batch."""

    def __init__(self, kinds: Sequence[RankOneEdit | None]) -> None:
        """Stack the edit of every kind of row; None leaves rows of that kind as they are."""
        import torch

        edits = [kind for kind in kinds if kind is not None]
        assert edits, "a site has an edit"
        self._example = edits[0]
        self._is_bounded = any(edit.projection.is_bounded for edit in edits)
        zero = torch.zeros_like(self._example.vector)
        self._vectors = torch.stack([zero if kind is None else kind.vector for kind in kinds])[..., None]
        maps = [IDENTITY if kind is None else kind.projection for kind in kinds]
        self._coefficients = torch.tensor([projection.coefficients for projection in maps])
        self._roles = torch.tensor([[0 if kind is None else kind.roles] for kind in kinds])

    def to(self, device: torch.device) -> RankOneTable:
        """Copy the tables to a device, once for all later passes."""
        self._vectors, self._coefficients, self._roles = (
            table.to(device) for table in (self._vectors, self._coefficients, self._roles)
        )
        return self

    def edit(
        self,
        activations: Tensor,
        roles: Tensor,
        kinds: Int[Tensor, "row"],
        project: EditProjection | None = None,
    ) -> Tensor:
        """Edit ``(row, pos, d_model)``, row ``i`` with the edit of kind ``kinds[i]``.

        Raises:
            FeatureError: the directions have another width than the activations.
        """
        self._example.check(activations)
        gain, shift, low, high = self._coefficients[kinds][:, None, None].unbind(-1)
        selected = (roles & self._roles[kinds]) != 0
        bounds = (low, high) if self._is_bounded else None
        return (project or edit_projection)(activations, self._vectors[kinds], selected, gain, shift, bounds)


@dataclass(frozen=True, eq=False)
class RankOneRows(ProjectionEdit):
    """A :class:`RankOneTable` with the kind of every row of a batch.

    Attributes:
        table: the edits.
        kinds: ``(row,)``; read anew in every pass, so that a captured graph follows changes in place.
    """

    table: RankOneTable
    kinds: Int[Tensor, "row"]

    def __call__(self, activations: Tensor, roles: Tensor, project: EditProjection | None = None) -> Tensor:
        return self.table.edit(activations, roles, self.kinds, project)


def edit_projection(
    activations: Tensor,
    vector: Tensor,
    selected: Tensor,
    gain: Tensor,
    shift: Tensor,
    bounds: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Replace the projection ``p`` onto a vector by ``clamp(p + gain·p + shift)``; computed in float32.

    Args:
        activations: ``(row, pos, d_model)``.
        vector: ``(d_model, 1)``, or one per row, ``(row, d_model, 1)``.
        selected: ``(row, pos)``, the tokens to edit.
        gain: ``scale − 1``: one number, or one per row, ``(row, 1, 1)``.
        shift: likewise.
        bounds: lowest and highest projection, likewise; None without bounds.
    """
    import torch

    wide = activations.to(torch.float32, copy=True)
    projection = wide @ vector
    change = gain * projection + shift
    if bounds is not None:
        change = (projection + change).clamp(*bounds) - projection
    return wide.addcmul_(change * selected[..., None], vector.mT).to(activations.dtype)
