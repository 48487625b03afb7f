"""What a network is asked to do to its own activations: one mechanism for reading and writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor

Edit: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""``(activations (batch, pos, d_model), roles (batch, pos)) -> activations``: shape and dtype kept.

An edit that returns its very input is a tap, and is bitwise invisible.
"""

SiteEdits: TypeAlias = Mapping[Site, Sequence[Edit]]
"""Edits by site, applied in order."""


@runtime_checkable
class Editing(Protocol):
    """Anything that can be put into a forward pass: an intervention, a tap, a meter."""

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """Return the edits this value makes in a model of ``n_layers`` blocks."""
        ...


def compose(editings: Sequence[Editing], n_layers: int) -> dict[Site, tuple[Edit, ...]]:
    """Lay out several editings over the sites of a model; at one site they act in the order given."""
    composed: dict[Site, tuple[Edit, ...]] = {}
    for editing in editings:
        for site, edit in editing.edits(n_layers).items():
            site.within(n_layers)
            composed[site] = (*composed.get(site, ()), edit)
    return composed


def apply(edits: Sequence[Edit], activations: Tensor, roles: Tensor) -> Tensor:
    """Run the edits of one site in order."""
    for edit in edits:
        activations = edit(activations, roles)
    return activations
