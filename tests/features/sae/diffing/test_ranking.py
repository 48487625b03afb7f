"""Every ranking finds a planted latent, and p-values are honest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from features.sae.conftest import PLANTED, Push
from personaprobe.errors import FeatureError
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.features.sae.diffing.ranking import (
    RANKINGS,
    permutation_p_values,
    rank_latents,
    ranking_overlap,
)
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet


@pytest.mark.parametrize("name", [name for name in RANKINGS if name != "scaling"])
def test_every_ranking_puts_the_planted_latent_first(comparison: Comparison, name: str) -> None:
    assert rank_latents(comparison, name).top(1) == [PLANTED]
    assert rank_latents(comparison, name).rank(PLANTED) == 1


def test_the_planted_latent_survives_the_correction_and_without_a_change_none_does(
    comparison: Comparison,
) -> None:
    ranking = rank_latents(comparison, "delta")
    assert ranking.q_values is not None
    assert ranking.q_values[PLANTED] < 0.05
    unchanged = rank_latents(replace(comparison, means=Trio(*[comparison.means.secure] * 3)), "delta")
    assert unchanged.q_values is not None
    assert unchanged.q_values.min() > 0.9


def test_p_values_are_uniform_if_labels_mean_nothing() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(size=(40, 400)).repeat(2, axis=0)
    ids = np.arange(40).repeat(2).astype(str).tolist()
    p_values = permutation_p_values(differences, ids, seed=0)
    assert 0.02 < (p_values < 0.05).mean() < 0.09
    assert 0.45 < p_values.mean() < 0.55
    alone = permutation_p_values(differences, [str(i) for i in range(80)], seed=0)
    assert (alone < 0.05).mean() > 0.08  # texts of one question taken for independent ones: too sure


def test_latent_scaling_puts_the_planted_latent_of_an_exact_dictionary_first(
    trio: Trio[LanguageModel], random_dictionary: Dictionary, many_pairs: PairSet
) -> None:
    """Rows of an orthonormal basis with either sign reconstruct exactly, so that nothing of other latents is left over."""
    basis = torch.linalg.qr(random_dictionary.W_dec[: trio.base.d_model].T).Q.T
    rows = torch.cat([basis, -basis]).contiguous()
    exact = replace(random_dictionary, W_enc=rows.T.contiguous(), W_dec=rows, b_enc=torch.zeros(len(rows)))
    written = Trio(trio.base, trio.base.edited(Push(2.0 * rows[7])), trio.base, "written")
    assert rank_latents(compare(exact, written, many_pairs), "scaling").top(1) == [7]


def test_labels_of_a_family_are_exchanged_together(comparison: Comparison) -> None:
    one_family = replace(comparison, families=("all",) * len(comparison.families))
    ranking = rank_latents(one_family, "delta")
    assert ranking.p_values is not None
    assert ranking.p_values.min() > 0.4  # a sign for all texts is a coin: nothing can be shown


def test_a_permutation_that_changes_nothing_but_the_order_of_the_sum_counts_as_large() -> None:
    rng = np.random.default_rng(2)
    differences = rng.normal(1e4, 1.0, size=(96, 50)).astype(np.float32)
    p_values = permutation_p_values(differences, ["one"] * 96, seed=0, n=200)
    assert p_values == pytest.approx(0.5, abs=0.15)


def test_rankings_overlap_with_themselves_and_unknown_ones_are_refused(comparison: Comparison) -> None:
    rankings = [rank_latents(comparison, "delta"), rank_latents(comparison, "rate")]
    shared = ranking_overlap(rankings, 10)
    assert shared["delta", "delta"] == 1.0
    assert shared["delta", "rate"] == shared["rate", "delta"] >= 0.1
    with pytest.raises(FeatureError, match="delta"):
        rank_latents(comparison, "deltas")
