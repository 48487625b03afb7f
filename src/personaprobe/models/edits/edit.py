"""What a network is asked to do to its own activations: one mechanism for reading and writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from personaprobe.models.edits.rank_one import RankOne, RankOnes
from personaprobe.site import Site

if TYPE_CHECKING:
    import torch
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


class Kinds:
    """Edits that rows of one batch may have, so that models that differ only in their edits run together.

    Where all edits of a site are of rank one, they are one pass over all rows; others act on their own rows, one after
    the other.
    """

    def __init__(self, rows: Iterable[SiteEdits]) -> None:
        """Lay nothing yet; rows that share one object are of one kind."""
        self._kinds = list({id(edits): edits for edits in rows}.values())
        self._numbers = {id(edits): number for number, edits in enumerate(self._kinds)}
        self._tables: dict[Site, tuple[RankOnes, ...] | None] = {}

    def of(self, rows: Iterable[SiteEdits]) -> list[int]:
        """Which kind every row is."""
        return [self._numbers[id(edits)] for edits in rows]

    def over(self, rows: Sequence[SiteEdits], device: torch.device) -> SiteEdits:
        """Edits of a batch of these rows.

        Args:
            rows: any of those that were told.
            device: of the activations.
        """
        import torch

        kinds = self.of(rows)
        if len(set(kinds)) <= 1:
            return rows[0] if rows else {}
        which = torch.tensor(kinds, device=device)
        laid = self._at_once(rows, which)
        groups = (
            [(which == kind).nonzero()[:, 0] for kind in range(len(self._kinds))]
            if None in laid.values()
            else []
        )
        return {site: edits or self._in_turn(site, groups) for site, edits in laid.items()}

    def following(self, which: Tensor) -> SiteEdits | None:
        """Edits of a batch whose rows change their kinds; None unless all are of rank one.

        Others may ask the host, or tell it something, and act on some of the rows only.

        Args:
            which: ``(row,)``, the kind of every row, read again at every pass.
        """
        laid = self._at_once(self._kinds, which)
        return None if None in laid.values() else {site: edits for site, edits in laid.items() if edits}

    def _at_once(self, rows: Iterable[SiteEdits], which: Tensor) -> dict[Site, tuple[Edit, ...] | None]:
        """Edits of each site of some rows as one pass over all of them; None where that cannot be."""
        laid: dict[Site, tuple[Edit, ...] | None] = {}
        for site in dict.fromkeys(site for edits in rows for site in edits):
            if site not in self._tables:
                self._tables[site] = _of_rank_one([edits.get(site, ()) for edits in self._kinds])
            tables = self._tables[site]
            laid[site] = (
                None
                if tables is None
                else tuple(partial(table.on(which.device), which=which) for table in tables)
            )
        return laid

    def _in_turn(self, site: Site, groups: Sequence[Tensor]) -> tuple[Edit, ...]:
        """A site's edits, each over the rows of its kind."""
        members = [
            (edits[site], group) for edits, group in zip(self._kinds, groups, strict=True) if site in edits
        ]
        return (partial(_each, members),)


def beside(rows: Sequence[SiteEdits], device: torch.device) -> SiteEdits:
    """Let every row of a batch have edits of its own.

    Args:
        rows: the edits of each row of the batch; rows that share one object are edited together.
        device: of the activations.
    """
    return Kinds(rows).over(rows, device)


def _of_rank_one(kinds: Sequence[Sequence[Edit]]) -> tuple[RankOnes, ...] | None:
    """A site's edits as tables of what each kind does first, second, and so on; None where that cannot be."""
    found = [[edit for edit in own if isinstance(edit, RankOne)] for own in kinds]
    widths = {len(edit.vector) for own in found for edit in own}
    if list(map(len, found)) != list(map(len, kinds)) or len(widths) != 1:
        return None
    return tuple(RankOnes(each) for each in zip_longest(*found))


def _each(members: Sequence[tuple[Sequence[Edit], Tensor]], activations: Tensor, roles: Tensor) -> Tensor:
    """Act on several parts of the rows, on each as its own edits say."""
    edited = activations.clone()
    for edits, group in members:
        if len(group):
            edited[group] = apply(edits, activations[group], roles[group])
    return edited


def apply(edits: Sequence[Edit], activations: Tensor, roles: Tensor) -> Tensor:
    """Run the edits of one site in order."""
    for edit in edits:
        activations = edit(activations, roles)
    return activations
