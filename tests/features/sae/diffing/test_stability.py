"""Nearest latents are found through a shuffle; rankings agree with themselves and not with chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.diffing.stability import nearest_latents, ranking_agreement
from personaprobe.site import Site


def dictionary(rows: torch.Tensor, layer: int = 1) -> Dictionary:
    d_sae, d_model = rows.shape
    return Dictionary(
        Site(layer), rows.T.contiguous(), torch.zeros(d_sae), rows, torch.zeros(d_model), ReLU()
    )


def test_nearest_latents_are_found_in_any_order_and_at_any_scale() -> None:
    rows = torch.randn(30, 64, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    other = 3.0 * rows[order] + 0.1 * torch.randn(30, 64, generator=torch.Generator().manual_seed(2))
    other[0] = torch.randn(64, generator=torch.Generator().manual_seed(3))
    nearest = nearest_latents(dictionary(rows), dictionary(other))
    lost = int(order[0])
    shared = [latent for latent in range(30) if latent != lost]
    assert [int(order[nearest.latents[latent]]) for latent in shared] == shared
    assert nearest.share_matched(shared) == 1.0
    assert nearest.share_matched([lost]) == 0.0
    assert nearest.share_matched(range(30)) == pytest.approx(29 / 30)


def test_dictionaries_of_different_sites_are_not_matched() -> None:
    with pytest.raises(FeatureError, match="cannot be the same"):
        nearest_latents(dictionary(torch.eye(4)), dictionary(torch.eye(4), 2))


def test_rankings_agree_with_themselves_and_not_with_their_reverse() -> None:
    scores = np.random.default_rng(0).normal(size=200)
    ranking, reverse = Ranking("delta", scores), Ranking("delta", -scores)
    assert (
        ranking_agreement(ranking, ranking, 20).shared,
        ranking_agreement(ranking, ranking, 20).spearman,
    ) == (
        1.0,
        pytest.approx(1.0),
    )
    assert (
        ranking_agreement(ranking, reverse, 20).shared,
        ranking_agreement(ranking, reverse, 20).spearman,
    ) == (
        0.0,
        pytest.approx(-1.0),
    )
    chance = ranking_agreement(ranking, Ranking("delta", np.random.default_rng(1).normal(size=200)), 20)
    assert abs(chance.spearman) < 0.2
    assert np.isnan(ranking_agreement(ranking, Ranking("delta", np.zeros(200)), 20).spearman)
