"""Stability is complete against the dictionary itself, and places are those of the other ranking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking, top_by_mean_reciprocal_rank
from personaprobe.site import Site
from personaprobe.studies.latents.stability import stability_over_dictionaries, stability_over_runs

ROWS = torch.nn.functional.normalize(torch.randn(12, 64, generator=torch.Generator().manual_seed(0)), dim=-1)


def dictionary(rows: torch.Tensor, name: str) -> Dictionary:
    return Dictionary(
        Site(1), rows.T.contiguous(), torch.zeros(len(rows)), rows, torch.zeros(64), ReLU(), name=name
    )


def test_every_latent_is_found_in_a_reordered_dictionary_with_its_place_there() -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    ranking = Ranking("delta", np.arange(12.0))
    result = stability_over_dictionaries(
        dictionary(ROWS, "own"), dictionary(ROWS[order], "other"), [3, 7], ranking
    )
    assert (result["name"], result["with_twin"], result["first_with_twin"]) == ("other", 1.0, 1.0)
    assert result["mean_cosine"] == pytest.approx(1.0, abs=1e-5)
    for latent in (3, 7):
        match = result["twins"][str(latent)]
        assert int(order[match["latent"]]) == latent
        assert match["rank"] == 12 - match["latent"]


def test_a_run_agrees_completely_with_itself_and_lists_places() -> None:
    ranking = Ranking("delta", np.array([0.5, 3.0, 2.0, 1.0]))
    result = stability_over_runs("seed-1", ranking, ranking, [1, 0], 2)
    assert result["name"] == "seed-1"
    assert (result["shared"], result["n"], result["ranks"]) == (1.0, 2, {"1": 1, "0": 4})
    assert result["spearman"] == pytest.approx(1.0)


def test_a_first_place_counts_for_more_than_a_middling_place_in_every_ranking() -> None:
    middling = np.array([9.0, 8.0, 7.0, 6.0, 5.0])
    first_once = np.array([1.0, 2.0, 3.0, 4.0, 9.0])
    rankings = [Ranking("a", middling), Ranking("b", middling), Ranking("c", first_once)]
    places = top_by_mean_reciprocal_rank(rankings, 5)
    assert places[0] == 0
    assert places.index(4) < places.index(2)
    assert sorted(places) == [0, 1, 2, 3, 4]
