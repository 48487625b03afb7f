"""Edits of activations: functions applied at a site during a forward pass, for reading and for writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from personaprobe.models.edits.rank_one import EditProjection, ProjectionEdit
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor

Edit: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""``(activations (batch, pos, d_model), roles (batch, pos)) -> activations``: shape and dtype kept.

An edit that returns its very input is a tap, and is bitwise invisible.
"""

SiteEdits: TypeAlias = Mapping[Site, Sequence[Edit]]
"""Edits by site, applied in order; an :class:`EditPlan` is one that can be compared and hashed."""


@runtime_checkable
class EditSource(Protocol):
    """Anything that can be put into a forward pass: an intervention, a tap, a measurement."""

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """Return the edits that this value makes in a model of ``n_layers`` blocks."""
        ...


@dataclass(frozen=True, eq=False)
class EditPlan(Mapping[Site, tuple[Any, ...]]):
    """The edits of one forward pass, by site: an immutable mapping that serves as a key.

    Two plans are equal when they apply equal edits at the same sites in the same order. Caches of prefixes and batches
    of several arms use plans as keys. The empty plan is the unedited model.

    Attributes:
        items_by_site: sites in the order of a forward pass, each with its edits in the order they are applied.
    """

    items_by_site: tuple[tuple[Site, tuple[Edit, ...]], ...] = ()

    @cached_property
    def _edits(self) -> dict[Site, tuple[Edit, ...]]:
        return dict(self.items_by_site)

    @cached_property
    def _hash(self) -> int:
        return hash(self.items_by_site)

    @classmethod
    def of(cls, edits: SiteEdits) -> EditPlan:
        """Freeze a mapping from sites to edits."""
        return cls(tuple((site, tuple(edits[site])) for site in sorted(edits)))

    @classmethod
    def compose(cls, sources: Sequence[EditSource], n_layers: int) -> EditPlan:
        """Collect the edits of several sources; at one site they are applied in the order given.

        Raises:
            SiteError: a model of ``n_layers`` blocks does not have one of the sites.
        """
        edits: dict[Site, tuple[Edit, ...]] = {}
        for source in sources:
            for site, edit in source.edits(n_layers).items():
                site.within(n_layers)
                edits[site] = (*edits.get(site, ()), edit)
        return cls.of(edits)

    def __getitem__(self, site: Site) -> tuple[Edit, ...]:
        return self._edits[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self._edits)

    def __len__(self) -> int:
        return len(self._edits)

    def __hash__(self) -> int:
        return self._hash


def apply(
    edits: Sequence[Edit], activations: Tensor, roles: Tensor, project: EditProjection | None = None
) -> Tensor:
    """Apply the edits of one site in order.

    Args:
        edits: of the site.
        activations: ``(batch, pos, d_model)``.
        roles: ``(batch, pos)``.
        project: computes edits along a direction; None for :func:`~personaprobe.models.edits.rank_one.edit_projection`.
    """
    for edit in edits:
        extra = (project,) if isinstance(edit, ProjectionEdit) else ()
        activations = edit(activations, roles, *extra)
    return activations
