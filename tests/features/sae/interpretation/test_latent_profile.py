"""A profile shows the tokens at which a latent is active, for each checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.interpretation.latent_profile import LatentProfile, latent_profiles
from personaprobe.features.sae.interpretation.logit_lens import logit_lens
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site

SITE, D_SAE = Site(1), 40


@pytest.fixture(scope="module")
def dictionary(model: LanguageModel) -> Dictionary:
    rows = torch.randn(D_SAE, model.d_model, generator=torch.Generator().manual_seed(1))
    rows[9] = rows[4] + 0.1 * rows[9]  # nearly the same row
    rows = torch.nn.functional.normalize(rows, dim=-1)
    bias = torch.zeros(D_SAE)
    bias[30] = -1e9  # never fires
    return Dictionary(SITE, rows.T.contiguous(), bias, rows, torch.zeros(model.d_model), ReLU())


@pytest.fixture(scope="module")
def profiles(dictionary: Dictionary, trio: Trio[LanguageModel], pairs: PairSet) -> list[LatentProfile]:
    return latent_profiles(dictionary, trio, pairs, [4, 30], n_contexts=3)


def activations(
    dictionary: Dictionary, model: LanguageModel, pairs: PairSet, latent: int
) -> list[tuple[str, torch.Tensor]]:
    by_text = []
    for reading in tokenize(model.tokenizer, pairs):
        rows = model.activations(pad([reading.tokens], model.network.pad_id), [SITE])[SITE][0]
        by_text.append((reading.id, dictionary.encode(rows)[1:, latent]))
    return by_text


def test_contexts_are_those_of_the_largest_activations_in_each_model(
    profiles: list[LatentProfile], dictionary: Dictionary, trio: Trio[LanguageModel], pairs: PairSet
) -> None:
    for role, model in trio.items():
        strengths = sorted(
            (float(acts.max()) for _, acts in activations(dictionary, model, pairs, 4)), reverse=True
        )
        contexts = profiles[0].contexts[role]
        shown = [context.activations[context.peak] for context in contexts]
        assert shown == pytest.approx(strengths[:3], rel=1e-4)
        assert all(max(c.activations) == c.activations[c.peak] for c in contexts)
        assert all(len(c.tokens) == len(c.activations) for c in contexts)


def test_non_activating_contexts_hold_no_activation(
    dictionary: Dictionary, trio: Trio[LanguageModel], pairs: PairSet
) -> None:
    rare = replace(dictionary, b_enc=dictionary.b_enc - 3.0)
    [profile] = latent_profiles(rare, trio, pairs, [4], n_contexts=3)
    assert 0 < len(profile.non_activating) <= 3
    assert all(set(context.activations) == {0.0} for context in profile.non_activating)


def test_histograms_count_every_token_at_which_the_latent_is_active(
    profiles: list[LatentProfile], dictionary: Dictionary, trio: Trio[LanguageModel], pairs: PairSet
) -> None:
    acts = torch.cat([acts for _, acts in activations(dictionary, trio.secure, pairs, 4)])
    histogram = profiles[0].histogram
    assert sum(histogram.counts["secure"]) == int((acts > 0).sum())
    assert histogram.edges[0] == 0.0
    assert list(histogram.edges) == sorted(histogram.edges)


def test_a_latent_that_is_never_active_has_an_empty_profile(profiles: list[LatentProfile]) -> None:
    silent = profiles[1]
    assert all(contexts == () for contexts in silent.contexts.values())
    assert set(silent.histogram.rate.values()) == {0.0}
    assert all(sum(counts) == 0 for counts in silent.histogram.counts.values())


def test_a_similar_latent_is_found_by_its_decoder_row_and_by_its_activity(
    profiles: list[LatentProfile],
) -> None:
    assert profiles[0].nearest[0][0] == 9
    assert profiles[0].coactive[0][0] == 9
    assert profiles[0].coactive[0][1] > 0.9


def test_a_row_equal_to_a_tokens_unembedding_promotes_that_token_most(
    model: LanguageModel, pairs: PairSet
) -> None:
    """A decoder row that is a token's own unembedding makes that token more likely than any other."""
    head = model.network.head  # type: ignore[attr-defined]
    weights = head(torch.eye(model.d_model)).T  # (vocab, d_model)
    token = 50
    row = torch.nn.functional.normalize(weights[token] - weights.mean(0), dim=0)[None]
    sae = Dictionary(SITE, row.T.contiguous(), torch.zeros(1), row, torch.zeros(model.d_model), ReLU())
    texts = [reading.tokens for reading in tokenize(model.tokenizer, pairs)][:4]
    change = logit_lens(model, sae, [0], texts)[0]
    assert int(change.argmax()) == token


def test_profiles_of_latents_out_of_range_are_refused(
    dictionary: Dictionary, trio: Trio[LanguageModel], pairs: PairSet
) -> None:
    with pytest.raises(FeatureError, match="0 to 39"):
        latent_profiles(dictionary, trio, pairs, [40])
