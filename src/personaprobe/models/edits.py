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


def beside(rows: Sequence[SiteEdits]) -> SiteEdits:
    """Let every row of a batch have edits of its own, so that models that differ only in their edits run together.

    Args:
        rows: the edits of each row of the batch; rows that share one object are edited together.
    """
    groups: dict[int, list[int]] = {}
    for row, edits in enumerate(rows):
        groups.setdefault(id(edits), []).append(row)
    if len(groups) == 1:
        return rows[0]
    members = [(rows[group[0]], group) for group in groups.values()]
    sites = dict.fromkeys(site for edits, _ in members for site in edits)
    return {
        site: (_each([(edits[site], group) for edits, group in members if site in edits]),) for site in sites
    }


def _each(parts: Sequence[tuple[Sequence[Edit], list[int]]]) -> Edit:
    """An edit that acts on several parts of the rows, on each as its own edits say."""

    def edit(activations: Tensor, roles: Tensor) -> Tensor:
        edited = activations.clone()
        for edits, group in parts:
            edited[group] = apply(edits, activations[group], roles[group])
        return edited

    return edit


def apply(edits: Sequence[Edit], activations: Tensor, roles: Tensor) -> Tensor:
    """Run the edits of one site in order."""
    for edit in edits:
        activations = edit(activations, roles)
    return activations
