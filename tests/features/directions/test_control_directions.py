"""Control directions: drawn like the activations, or their principal components beside the feature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from personaprobe.features.directions.control_directions import (
    covariance_draw,
    orthogonal_components,
    orthogonal_part,
)

D = 12


@pytest.fixture(scope="module")
def rows() -> Tensor:
    """Activations that vary by a power of two less in each further direction of a rotated frame."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.linalg.qr(torch.randn(D, D, generator=generator)).Q
    sizes = 2.0 ** -torch.arange(D)
    return 5.0 + (torch.randn(600, D, generator=generator) * sizes) @ frame.T


def test_draws_have_the_covariance_of_the_activations(rows: Tensor) -> None:
    draws = torch.stack([covariance_draw(rows, seed) for seed in range(4000)])
    expected = torch.cov(rows.T)
    assert torch.allclose(torch.cov(draws.T), expected, atol=0.08 * float(expected.diagonal().max()))
    assert float(draws.mean(0).norm()) < 0.1 * float(draws.norm(dim=-1).mean())


def test_one_seed_gives_one_draw_and_another_seed_another(rows: Tensor) -> None:
    assert torch.equal(covariance_draw(rows, 3), covariance_draw(rows, 3))
    assert not torch.allclose(covariance_draw(rows, 3), covariance_draw(rows, 4))


@pytest.mark.parametrize("k", [1, 3])
def test_components_are_orthogonal_to_the_feature_and_to_each_other_and_ordered_by_variance(
    rows: Tensor, k: int
) -> None:
    feature = torch.randn(k, D, generator=torch.Generator().manual_seed(1))
    components = orthogonal_components(rows, feature)
    assert len(components) == D - k
    assert torch.allclose(components @ feature.T, torch.zeros(D - k, k), atol=1e-4)
    assert torch.allclose(components @ components.T, torch.eye(D - k), atol=1e-4)
    variances = (rows @ components.T).var(0)
    assert torch.equal(variances, variances.sort(descending=True).values)


def test_beside_the_first_component_the_first_is_what_was_the_second(rows: Tensor) -> None:
    every = orthogonal_components(rows, torch.zeros(0, D))
    assert abs(float(orthogonal_components(rows, every[:1])[0] @ every[1])) == pytest.approx(1, abs=1e-3)


def test_the_orthogonal_part_and_the_rest_add_up_and_the_rest_is_in_the_span(rows: Tensor) -> None:
    feature = torch.randn(2, D, generator=torch.Generator().manual_seed(3))
    beside = orthogonal_part(rows, feature)
    assert torch.allclose(beside @ feature.T, torch.zeros(len(rows), 2), atol=1e-3)
    assert torch.allclose(orthogonal_part(rows - beside, feature), torch.zeros_like(rows), atol=1e-4)
    assert torch.allclose(orthogonal_part(rows[0], feature), beside[0], atol=1e-5)
