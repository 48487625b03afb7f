"""The scale of a latent is arbitrary: an encoder c times as large with a decoder row c times as short computes the same.

No ranking, control, effect or page may depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from features.sae.conftest import D_SAE, PLANTED
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.activation_functions import ActivationFunction, Gated, JumpReLU, ReLU, TopK
from personaprobe.features.sae.crosscoder import Crosscoder
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.all_rankings import all_rankings
from personaprobe.features.sae.diffing.attribution import rank_by_attribution
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.features.sae.diffing.crosscoder_ranking import rank_crosscoder_latents
from personaprobe.features.sae.diffing.matched_controls import matched_latents, shuffled_latents
from personaprobe.features.sae.diffing.ranking import RANKINGS, Ranking, rank_latents
from personaprobe.features.sae.diffing.stability import nearest_latents
from personaprobe.features.sae.interpretation.latent_profile import latent_profiles
from personaprobe.features.sae.latents import Latents
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site
from personaprobe.studies.latents.search import shortlist
from random_dictionaries import numbers

BIAS = 0.3 * numbers(D_SAE, seed=2)

ACTIVATIONS: dict[str, ActivationFunction] = {
    "relu": ReLU(),
    "jumprelu": JumpReLU(0.3 * numbers(D_SAE, seed=5).abs()),
    "batchtopk": JumpReLU(torch.full((D_SAE,), 0.4)),
    "gated": Gated(BIAS, numbers(D_SAE, seed=7).exp(), 0.3 * numbers(D_SAE, seed=8)),
    "topk": TopK(8),
}
"""The last one compares its latents itself: only a scale common to all of them leaves what it computes as it is."""


def scales(kind: str) -> Tensor:
    """A factor a latent, over three orders of magnitude."""
    return torch.full((D_SAE,), 37.0) if kind == "topk" else (1.5 * numbers(D_SAE, seed=11)).exp()


def rescaled(dictionary: Dictionary, c: Tensor) -> Dictionary:
    """The same function, with every latent's activations multiplied by its factor."""
    activation = dictionary.activation
    if isinstance(activation, JumpReLU):
        activation = JumpReLU(activation.threshold * c)
    if isinstance(activation, Gated):
        activation = Gated(activation.b_gate * c, activation.gain, activation.b_mag * c)
    return replace(
        dictionary,
        W_enc=dictionary.W_enc * c,
        b_enc=dictionary.b_enc * c,
        W_dec=dictionary.W_dec / c[:, None],
        activation=activation,
    )


@pytest.fixture(scope="module", params=ACTIVATIONS)
def pair(request: pytest.FixtureRequest, random_dictionary: Dictionary) -> tuple[Dictionary, Dictionary]:
    """A dictionary, and the same with rescaled latents."""
    one = replace(random_dictionary, b_enc=BIAS, activation=ACTIVATIONS[request.param])
    return one, rescaled(one, scales(request.param))


@pytest.fixture(scope="module")
def comparisons(
    pair: tuple[Dictionary, Dictionary], planted: Trio[LanguageModel], many_pairs: PairSet
) -> tuple[Comparison, Comparison]:
    one, other = (compare(dictionary, planted, many_pairs) for dictionary in pair)
    assert not torch.allclose(one.means.insecure, other.means.insecure, rtol=0.5)
    return one, other


def same_ranking(one: Ranking, other: Ranking) -> None:
    """Equal scores up to rounding, of every step where a probe is fitted, and the same first ten."""
    finite = np.isfinite(one.scores)
    np.testing.assert_array_equal(finite, np.isfinite(other.scores))
    largest = np.abs(one.scores[finite]).max()
    np.testing.assert_allclose(other.scores[finite], one.scores[finite], rtol=2e-3, atol=1e-3 * largest)
    assert one.top(10) == other.top(10)


@pytest.mark.parametrize("name", RANKINGS)
def test_no_ranking_depends_on_the_scale(name: str, comparisons: tuple[Comparison, Comparison]) -> None:
    one, other = (rank_latents(comparison, name) for comparison in comparisons)
    same_ranking(one, other)
    if one.p_values is not None and other.p_values is not None:
        np.testing.assert_allclose(other.p_values, one.p_values, atol=2e-3)


def test_attribution_does_not_depend_on_the_scale(
    pair: tuple[Dictionary, Dictionary], planted: Trio[LanguageModel], many_pairs: PairSet
) -> None:
    same_ranking(*(rank_by_attribution(dictionary, planted.insecure, many_pairs) for dictionary in pair))


def test_the_latents_that_a_search_tries_do_not_depend_on_the_scale(
    pair: tuple[Dictionary, Dictionary], planted: Trio[LanguageModel], many_pairs: PairSet
) -> None:
    proposed = [shortlist(all_rankings(d, planted, many_pairs, floor=-1e9)[1], 12) for d in pair]
    assert proposed[0] == proposed[1]


@pytest.mark.parametrize("draw", [matched_latents, shuffled_latents])
def test_no_control_depends_on_the_scale(
    draw: Callable[[Comparison, list[int], int], tuple[int, ...]], comparisons: tuple[Comparison, Comparison]
) -> None:
    for seed in range(5):
        one, other = (draw(comparison, [PLANTED, 3, 5], seed) for comparison in comparisons)
        assert one == other


def test_the_effect_and_the_axis_of_latents_do_not_depend_on_the_scale(
    pair: tuple[Dictionary, Dictionary], comparisons: tuple[Comparison, Comparison], trio: Trio[LanguageModel]
) -> None:
    model, chosen = trio.insecure, (PLANTED, 3, 5)
    batch = pad(
        [next(iter(model.tokenizer.text(text) for text in ("w1 w2 w3 w4 w5",)))], model.network.pad_id
    )
    one, other = (model.edited(AblateLatents(dictionary, chosen)).log_probs(batch) for dictionary in pair)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    axes = [Latents(comparison.dictionary, chosen).axis(comparison) for comparison in comparisons]
    assert axes[0].cosine(axes[1]) == pytest.approx(1.0, abs=1e-4)
    assert axes[0].gap == pytest.approx(axes[1].gap, rel=1e-3)
    np.testing.assert_array_equal(nearest_latents(*pair).latents, np.arange(D_SAE))


def test_no_page_about_a_latent_depends_on_the_scale(
    pair: tuple[Dictionary, Dictionary], planted: Trio[LanguageModel], many_pairs: PairSet
) -> None:
    one, other = (latent_profiles(d, planted, many_pairs, [PLANTED, 3], n_contexts=3) for d in pair)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.histogram.rate == pytest.approx(theirs.histogram.rate, abs=1e-3)
        assert mine.histogram.edges == pytest.approx(theirs.histogram.edges, rel=1e-3)
        assert [n for n, _ in mine.nearest] == [n for n, _ in theirs.nearest]
        assert dict(mine.coactive) == pytest.approx(dict(theirs.coactive), rel=1e-2)
        for role, contexts in mine.contexts.items():
            assert [context.id for context in contexts] == [context.id for context in theirs.contexts[role]]
            for context, again in zip(contexts, theirs.contexts[role], strict=True):
                assert context.activations == pytest.approx(again.activations, rel=1e-3, abs=1e-4)


def test_no_ranking_of_a_crosscoder_depends_on_the_scale(
    planted: Trio[LanguageModel], many_pairs: PairSet
) -> None:
    d_model = planted.base.d_model
    texts = [reading.tokens for reading in tokenize(planted.base.tokenizer, many_pairs)][:12]
    site = Site(1)
    rows = Trio.of(
        {
            role: torch.cat(
                [
                    model.activations(pad([t], model.network.pad_id), [site])[site][0, 1:].float()
                    for t in texts
                ]
            )
            for role, model in planted.items()
        }
    )
    W_dec = numbers(D_SAE, 3 * d_model, seed=3) / 10
    one = Dictionary(
        site, W_dec.T.contiguous(), BIAS, W_dec, torch.zeros(3 * d_model), ACTIVATIONS["jumprelu"]
    )
    rankings = [
        rank_crosscoder_latents(Crosscoder(d), rows) for d in (one, rescaled(one, scales("jumprelu")))
    ]
    for mine, theirs in zip(*rankings, strict=True):
        same_ranking(mine, theirs)
