"""An outside package adds an intervention with public names only: a frozen value with edits and a description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import personaprobe as pp


@dataclass(frozen=True)
class Dampen:
    """Scales all activations at a site."""

    site: pp.Site
    factor: float
    roles: pp.Role = pp.Role.ALL

    @property
    def note(self) -> str:
        return f"dampen × {self.factor:g} @ {self.site}"

    def describe(self) -> dict[str, Any]:
        return {"kind": "Dampen", "site": str(self.site), "factor": self.factor, "roles": int(self.roles)}

    def edits(self, n_layers: int) -> Mapping[pp.Site, Any]:
        return {self.site: self._edit}

    def _edit(self, activations: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        acted_on = ((roles & int(self.roles)) != 0)[..., None]
        return torch.where(acted_on, activations * self.factor, activations)


def test_it_is_an_intervention() -> None:
    assert isinstance(Dampen(pp.Site(1), 0.5), pp.Intervention)


def test_it_edits_a_model_and_composes_with_ours_in_order(
    trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet
) -> None:
    direction = pp.Direction(pp.Site(1), torch.ones(trio.base.d_model), "ones", {1: pp.Calibration(3.0, 1.0)})
    dampen, ablate = Dampen(pp.Site(1), 0.5), pp.Ablate(direction)
    bare, one, other = (
        pp.preference_gaps(trio.base.edited(*edits), pairs)
        for edits in ((), (dampen, ablate), (ablate, dampen))
    )
    assert not (bare == one).any()
    assert not (one == other).all()


def test_scaling_by_one_is_the_identity(trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet) -> None:
    same = trio.base.edited(Dampen(pp.Site(1), 1.0))
    assert (pp.preference_gaps(same, pairs) == pp.preference_gaps(trio.base, pairs)).all()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_its_energy_is_measured_like_that_of_ours(
    trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet, factor: float
) -> None:
    tokenizer = trio.base.tokenizer
    rows = [tokenizer.exchange(pair.question, pair.careful) for pair in pairs]
    measured = pp.MeasuredAblation.of(trio.base, Dampen(pp.Site(1), factor), rows)
    assert measured.energies[pp.Site(1)].response.dose == pytest.approx(abs(factor - 1), rel=1e-4)


def test_activations_are_recorded_under_it(
    trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet, tmp_path: Path
) -> None:
    plain = pp.record(trio.base, pairs, "1.resid_post", home=tmp_path).read("1.resid_post")
    halved = pp.record(trio.base.edited(Dampen(pp.Site(1), 0.5)), pairs, "1.resid_post", home=tmp_path)
    torch.testing.assert_close(halved.read("1.resid_post"), plain / 2)
