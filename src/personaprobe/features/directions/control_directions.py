"""Control directions of a feature: isotropic, drawn from the covariance of activations, their principal components, a
difference of means with shuffled labels, and the change by harmless training.

An isotropic direction lies nearly orthogonal to everything a model computes. Directions in which activations do vary are
the harder controls: ablating them removes something the model has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.directions.sources import DiscoveryActivations, find_direction
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

ControlKind: TypeAlias = Literal["random", "covariance", "shuffled", "component", "benign"]
"""Isotropic; drawn from the covariance of response activations; a difference of means with shuffled labels; a principal
component of the response activations, orthogonal to the feature; secure − base, orthogonal to the feature."""


@dataclass(frozen=True, eq=False)
class ControlDirections:
    """The distribution that control directions of one feature are drawn from.

    Attributes:
        site: that of the feature.
        activations: of insecure and secure on the discovery texts; controls are calibrated on them.
        responses: ``(token, d_model)``, response activations of insecure at the site.
        feature: ``(k, d_model)``, vectors that principal components are made orthogonal to: the feature's direction, or the
            decoder rows of its latents.
        benign_change: gives secure − base at the site, ``(d_model,)``: a mean change by training that is not harmful.
    """

    site: Site
    activations: DiscoveryActivations
    responses: Float[Tensor, "token d_model"]
    feature: Float[Tensor, "k d_model"]
    benign_change: Callable[[], Float[Tensor, "d_model"]]

    def draw(self, kind: ControlKind, seed: int) -> Direction:
        """Draw one direction, calibrated at every recorded layer.

        Args:
            kind: of control.
            seed: of the draw; for principal components the rank, 0 for the first.

        Raises:
            FeatureError: there are fewer principal components, or harmless training changed nothing beside the feature.
        """
        if kind in {"random", "shuffled"}:
            return find_direction(self.activations, kind, self.site, seed)
        if kind == "covariance":
            drawn, source = covariance_draw(self.responses, seed), f"covariance:{seed}"
        elif kind == "benign":
            drawn, source = orthogonal_part(self.benign_change(), self.feature), "secure − base"
        else:
            drawn, source = self._component(seed), f"component:{seed + 1}"
        return self.calibrate(Direction(self.site, drawn, source))

    def calibrate(self, direction: Direction) -> Direction:
        """Any direction of the same stream, calibrated at every recorded layer, so that it can serve as a control."""
        return self.activations.calibrate(direction)

    @cached_property
    def _components(self) -> Float[Tensor, "component d_model"]:
        return orthogonal_components(self.responses, self.feature)

    def _component(self, rank: int) -> Float[Tensor, "d_model"]:
        if len(self._components) <= rank:
            raise FeatureError(
                f"the response activations have {len(self._components)} principal components beside the feature, "
                f"and number {rank + 1} is needed; record more texts"
            )
        return self._components[rank]


def covariance_draw(rows: Float[Tensor, "token d_model"], seed: int) -> Float[Tensor, "d_model"]:
    """One draw from a normal distribution with the covariance of some activations."""
    import torch

    weights = torch.randn(len(rows), generator=torch.Generator().manual_seed(seed))
    drawn: Tensor = (rows - rows.mean(0)).T @ weights / max(1, len(rows) - 1) ** 0.5
    return drawn


def orthogonal_components(
    rows: Float[Tensor, "token d_model"], feature: Float[Tensor, "k d_model"]
) -> Float[Tensor, "component d_model"]:
    """Principal components of activations with a feature projected out: orthogonal to it and to each other.

    Args:
        rows: activations.
        feature: vectors that span the feature; they need not be orthogonal.

    Returns:
        Unit vectors, that of the largest variance first; directions without variance are left out.
    """
    import torch

    residual = orthogonal_part(rows - rows.mean(0), feature)
    _, sizes, components = torch.linalg.svd(residual, full_matrices=False)
    varying: Tensor = components[sizes > 1e-5 * sizes[0]]
    return varying


def orthogonal_part(
    rows: Float[Tensor, "... d_model"], feature: Float[Tensor, "k d_model"]
) -> Float[Tensor, "... d_model"]:
    """Vectors with the span of a feature projected out.

    Args:
        rows: vectors.
        feature: vectors that span the feature; they need not be orthogonal.
    """
    import torch

    basis = torch.linalg.qr(feature.float().T).Q
    remaining: Tensor = rows - (rows @ basis) @ basis.T
    return remaining
