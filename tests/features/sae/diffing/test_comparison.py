"""A comparison measures the activity of latents on response tokens."""

from __future__ import annotations

import pytest
import torch

from features.sae.conftest import D_SAE, SITE
from personaprobe.errors import FeatureError
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.features.sae.reconstruction import explained_variance
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role, Tokens, pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet


def test_activity_is_that_of_the_response_tokens_alone(
    trio: Trio[LanguageModel], random_dictionary: Dictionary, pairs: PairSet
) -> None:
    comparison = compare(random_dictionary, trio, pairs)
    readings = list(tokenize(trio.base.tokenizer, pairs))
    fired, n = torch.zeros(D_SAE), 0
    for index, reading in enumerate(readings):
        batch = pad([reading.tokens], trio.base.network.pad_id)
        rows = trio.insecure.activations(batch, [SITE])[SITE][(batch.roles & Role.RESPONSE) != 0]
        acts = random_dictionary.encode(rows)
        assert torch.allclose(comparison.means.insecure[index], acts.mean(0), atol=1e-5)
        fired, n = fired + (acts > 0).sum(0), n + len(rows)
    assert torch.allclose(comparison.rates.insecure, fired / n, atol=1e-6)
    assert comparison.ids == tuple(reading.id for reading in readings)
    assert comparison.families == tuple(reading.family or reading.id for reading in readings)


def test_latent_scaling_leaves_out_what_other_latents_write(
    trio: Trio[LanguageModel], random_dictionary: Dictionary, pairs: PairSet
) -> None:
    """β by its definition, latent by latent: the activation minus the reconstruction by all other latents."""
    scaling = compare(random_dictionary, trio, pairs).scaling
    rows = {
        role: torch.cat(
            [
                model.activations(batch, [SITE])[SITE][(batch.roles & Role.RESPONSE) != 0]
                for batch in (pad([tokens], model.network.pad_id) for tokens in texts_of(model, pairs))
            ]
        )
        for role, model in trio.items()
    }
    acts = {role: random_dictionary.encode(x) for role, x in rows.items()}
    strengths = acts["insecure"]
    active = strengths.sum(0).argsort(descending=True)[:5].tolist()
    for role, x in rows.items():
        for latent in active:
            d, others = random_dictionary.W_dec[latent], acts[role].clone()
            others[:, latent] = 0
            along = (x - random_dictionary.decode(others)) @ d
            beta = (strengths[:, latent] * along).sum() / (strengths[:, latent].pow(2).sum() * d.pow(2).sum())
            assert float(scaling[role][latent]) == pytest.approx(float(beta), rel=1e-3, abs=1e-4)


def texts_of(model: LanguageModel, pairs: PairSet) -> list[Tokens]:
    return [reading.tokens for reading in tokenize(model.tokenizer, pairs)]


def test_a_comparison_holds_the_explained_variance_of_each_model(
    comparison: Comparison, planted: Trio[LanguageModel], many_pairs: PairSet
) -> None:
    for role, model in planted.items():
        batches = [(pad([tokens], model.network.pad_id), tokens) for tokens in texts_of(model, many_pairs)]
        rows = torch.cat(
            [
                model.activations(batch, [SITE])[SITE][0][torch.tensor(tokens.roles) == Role.RESPONSE]
                for batch, tokens in batches
            ]
        )
        written = comparison.dictionary.decode(comparison.dictionary.encode(rows))
        assert comparison.explained_variance[role] == pytest.approx(
            explained_variance(rows, written), rel=1e-3
        )
    comparison.refuse_poor(min(share for _, share in comparison.explained_variance.items()) - 0.01)
    with pytest.raises(FeatureError, match="is wanted"):
        comparison.refuse_poor(2.0)
