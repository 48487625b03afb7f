"""Different edits for the rows of one batch, so that models that differ only in their edits run together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from personaprobe.models.edits.edit import Edit, EditPlan, SiteEdits, apply
from personaprobe.models.edits.rank_one import (
    EditProjection,
    ProjectionEdit,
    RankOneEdit,
    RankOneRows,
    RankOneTable,
)
from personaprobe.site import Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PerRowEdits:
    """The edit plans that rows of one batch may have; a kind of row is the index of its plan.

    At a site where all edits are of rank one, a single pass edits all rows. At other sites each plan edits its own rows,
    one plan after the other.
    """

    def __init__(self, plans: Iterable[EditPlan]) -> None:
        """Register the plans of all rows to come; equal plans are one kind."""
        self._plans = list(dict.fromkeys(plans))
        self._kinds = {plan: kind for kind, plan in enumerate(self._plans)}
        self._tables: dict[Site, tuple[RankOneTable, ...] | None] = {}

    def kinds(self, rows: Iterable[EditPlan]) -> list[int]:
        """The kind of every row."""
        return [self._kinds[plan] for plan in rows]

    def for_batch(self, rows: Sequence[EditPlan], device: torch.device) -> SiteEdits:
        """Edits of a batch whose rows have these plans.

        Args:
            rows: the registered plan of each row.
            device: of the activations.
        """
        import torch

        kinds = self.kinds(rows)
        if len(set(kinds)) <= 1:
            return rows[0] if rows else {}
        row_kinds = torch.tensor(kinds, device=device)
        at_sites = self._in_one_pass(rows, row_kinds)
        groups = (
            [(row_kinds == kind).nonzero()[:, 0] for kind in range(len(self._plans))]
            if None in at_sites.values()
            else []
        )
        return {site: edits or self._row_by_row(site, groups) for site, edits in at_sites.items()}

    def for_row_kinds(self, row_kinds: Tensor) -> SiteEdits | None:
        """Edits of a batch whose row-to-edit assignment is a tensor and changes between steps.

        CUDA graphs need this. None if any edit is not of rank one, since such edits may synchronise with the host.

        Args:
            row_kinds: ``(row,)``, the kind of every row, read anew in every pass.
        """
        at_sites = self._in_one_pass(self._plans, row_kinds)
        return (
            None if None in at_sites.values() else {site: edits for site, edits in at_sites.items() if edits}
        )

    def _in_one_pass(
        self, rows: Iterable[EditPlan], row_kinds: Tensor
    ) -> dict[Site, tuple[Edit, ...] | None]:
        """Edits of each site as single passes over all rows; None at sites with an edit that is not of rank one."""
        at_sites: dict[Site, tuple[Edit, ...] | None] = {}
        for site in dict.fromkeys(site for plan in rows for site in plan):
            if site not in self._tables:
                self._tables[site] = _rank_one_tables([plan.get(site, ()) for plan in self._plans])
            tables = self._tables[site]
            at_sites[site] = (
                None
                if tables is None
                else tuple(RankOneRows(table.to(row_kinds.device), row_kinds) for table in tables)
            )
        return at_sites

    def _row_by_row(self, site: Site, groups: Sequence[Tensor]) -> tuple[Edit, ...]:
        """A site's edits, each applied to the rows of its own kind."""
        return (
            RowGroups(
                [(plan[site], group) for plan, group in zip(self._plans, groups, strict=True) if site in plan]
            ),
        )


@dataclass(frozen=True, eq=False)
class RowGroups(ProjectionEdit):
    """Edits of one site that apply to different rows; rows in no group are copied.

    Attributes:
        members: edits with the indices ``(row,)`` of the rows they apply to.
    """

    members: Sequence[tuple[Sequence[Edit], Tensor]]

    def __call__(self, activations: Tensor, roles: Tensor, project: EditProjection | None = None) -> Tensor:
        edited = activations.clone()
        for edits, rows in self.members:
            if len(rows):
                edited[rows] = apply(edits, activations[rows], roles[rows], project)
        return edited


def per_row(rows: Sequence[EditPlan], device: torch.device) -> SiteEdits:
    """Edits of one batch whose rows have plans of their own.

    Args:
        rows: the plan of each row; rows with equal plans are edited together.
        device: of the activations.
    """
    return PerRowEdits(rows).for_batch(rows, device)


def _rank_one_tables(kinds: Sequence[Sequence[Edit]]) -> tuple[RankOneTable, ...] | None:
    """A site's edits as tables of each kind's first edit, second edit and so on; None unless all are of rank one."""
    edits = [[edit for edit in kind if isinstance(edit, RankOneEdit)] for kind in kinds]
    widths = {len(edit.vector) for kind in edits for edit in kind}
    if list(map(len, edits)) != list(map(len, kinds)) or len(widths) != 1:
        return None
    return tuple(RankOneTable(nth) for nth in zip_longest(*edits))
