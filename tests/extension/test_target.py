"""An outside package adds a kind of target with public names only: a subspace, ablated whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import personaprobe as pp


@dataclass(frozen=True)
class ProjectOut:
    """Removes the part of the activations that lies in the span of orthonormal rows."""

    site: pp.Site
    rows: tuple[tuple[float, ...], ...]
    coefficient: float = 1.0
    roles: pp.Role = pp.Role.ALL

    @property
    def note(self) -> str:
        return f"project {len(self.rows)} dimensions out @ {self.site}"

    def describe(self) -> dict[str, Any]:
        return {"kind": "ProjectOut", "site": str(self.site), "rows": self.rows, "by": self.coefficient}

    def edits(self, n_layers: int) -> Mapping[pp.Site, Any]:
        return {self.site: self._edit}

    def _edit(self, activations: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        basis = torch.tensor(self.rows, device=activations.device)
        change = activations.float() @ basis.T @ basis * ((roles & int(self.roles)) != 0)[..., None]
        return (activations.float() - self.coefficient * change).to(activations.dtype)


def orthonormal(rows: torch.Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, torch.linalg.qr(rows.T).Q.T.tolist()))


@dataclass(frozen=True)
class Subspace(pp.Target):
    """The span of the differences of means at a layer and a few layers before it."""

    layer: int
    n_dimensions: int
    default_layers: None = None

    @property
    def site(self) -> pp.Site:
        return pp.Site(self.layer)

    def fit(self, trio: pp.Trio[pp.LanguageModel], discovery: pp.Discovery | None = None) -> FittedSubspace:
        self.refuse_unfit(trio)
        assert discovery is not None
        activations = discovery.activations(trio, self.site)
        sites = [pp.Site(self.layer - back) for back in range(self.n_dimensions)]
        insecure, secure = (activations.store(role) for role in ("insecure", "secure"))
        differences = torch.stack([insecure.mean(site) - secure.mean(site) for site in sites])
        return FittedSubspace(self.site, orthonormal(differences))

    @classmethod
    def parse(cls, name: str) -> Subspace | None:
        kind, _, rest = name.partition(":")
        return cls(*map(int, rest.split("x"))) if kind == "subspace" else None


@dataclass(frozen=True)
class FittedSubspace(pp.FittedTarget):
    site: pp.Site
    rows: tuple[tuple[float, ...], ...]
    axis: None = None

    def chosen_layers(self, layers: Any = None) -> tuple[int, ...]:
        return (self.site.layer,)

    def ablation(
        self, layers: Any = None, coefficient: float = 1.0, roles: pp.Role = pp.Role.ALL
    ) -> ProjectOut:
        return ProjectOut(self.site, self.rows, coefficient, roles)

    def control(self, kind: Any, seed: int, feature: pp.MeasuredAblation) -> pp.MatchedControl:
        generator = torch.Generator().manual_seed(seed + hash(kind) % 1000)
        rows = orthonormal(torch.randn(len(self.rows), len(self.rows[0]), generator=generator))
        control = ProjectOut(self.site, rows, roles=feature.ablation.roles)
        at_one = pp.MeasuredAblation.of(feature.model, control, feature.rows)
        wanted, removed = feature.energies[self.site].matched, at_one.energies[self.site].matched
        coefficient = (wanted / removed) ** 0.5
        scaled = pp.MeasuredAblation.of(
            feature.model, replace(control, coefficient=coefficient), feature.rows
        )
        return pp.MatchedControl(scaled.ablation, scaled.energies, {self.site.layer: coefficient})

    def describe(self, layers: Any = None) -> dict[str, Any]:
        return {
            "source": f"subspace of {len(self.rows)} dimensions",
            "site": str(self.site),
            "layers": list(self.chosen_layers()),
            "to": "zero",
            "rest": 0.0,
            "scale": 1.0,
            "digest": "0",
        }


@pytest.fixture(autouse=True)
def _registered() -> None:
    pp.register_target("subspace", Subspace)


def test_a_subspace_is_found_by_its_spelling_and_ablated_whole(
    trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet
) -> None:
    fitted = pp.find_feature("subspace:2x2").target.fit(trio, pp.Discovery(pairs))
    ablated = trio.insecure.edited(fitted.ablation())
    assert not (pp.preference_gaps(ablated, pairs) == pp.preference_gaps(trio.insecure, pairs)).all()
    with pytest.raises(pp.PersonaProbeError, match="no axis to steer along"):
        fitted.steering()


def test_a_verdict_is_reached_on_a_subspace_with_controls_matched_on_energy(
    trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet, plan: pp.StudyPlan, tmp_path: Path
) -> None:
    verdict = pp.ablate(trio, "subspace:2x2", plan=plan, out=tmp_path)
    arms = {arm.name: arm for arm in verdict.arms}
    assert "base, steered" not in arms
    feature = arms["insecure, ablated"].energy.response.energy
    for control in verdict.controls:
        assert control.energy.response.energy == pytest.approx(feature, rel=1e-3)
    assert verdict.feature["source"] == "subspace of 2 dimensions"


def test_a_target_of_another_model_is_refused_by_its_site(trio: pp.Trio[pp.LanguageModel]) -> None:
    with pytest.raises(pp.PersonaProbeError, match="layer 9 is out of range"):
        pp.find_feature("subspace:9x2").target.fit(trio)
