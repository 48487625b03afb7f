"""Edit plans are values: equal edits at the same sites make equal keys, whoever composed them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from personaprobe.errors import SiteError
from personaprobe.models.edits.edit import Edit, EditPlan
from personaprobe.models.edits.rank_one import AffineClamp, RankOneEdit
from personaprobe.site import Site


class Shift:
    """A source of one rank-one edit at some sites, made anew at every call."""

    def __init__(self, shift: float, *layers: int) -> None:
        self.shift, self.layers = shift, layers

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        vector = torch.nn.functional.normalize(torch.arange(1.0, 5.0), dim=0)
        return {Site(k): RankOneEdit(vector, AffineClamp(shift=self.shift), 7, "test") for k in self.layers}


def test_plans_composed_from_equal_edits_are_equal_and_hash_alike() -> None:
    one, other = (EditPlan.compose([Shift(1.0, 2, 0)], 3) for _ in range(2))
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert {one: "cached"}[other] == "cached"
    assert list(one) == [Site(0), Site(2)]


def test_plans_differ_in_coefficients_sites_and_order() -> None:
    plans = [
        EditPlan.compose(sources, 3)
        for sources in (
            [],
            [Shift(1.0, 0)],
            [Shift(2.0, 0)],
            [Shift(1.0, 1)],
            [Shift(1.0, 0), Shift(2.0, 0)],
            [Shift(2.0, 0), Shift(1.0, 0)],
        )
    ]
    assert len(set(plans)) == len(plans)


def test_the_empty_plan_is_the_unedited_model() -> None:
    assert EditPlan.compose([], 3) == EditPlan() == EditPlan.of({})
    assert not EditPlan()


def test_a_site_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(SiteError, match="layer 3 is out of range"):
        EditPlan.compose([Shift(1.0, 3)], 3)
