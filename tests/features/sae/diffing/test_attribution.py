"""Attribution predicts the change of the loss, and gradients predict the effect of a small push."""

from __future__ import annotations

import pytest
import torch

from features.sae.conftest import PLANTED, SITE, Push
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.attribution import rank_by_attribution
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.questions.pairs import PairSet


def test_the_gradient_at_a_site_predicts_what_a_small_push_does(model: LanguageModel, pairs: PairSet) -> None:
    batch = pad([reading.tokens for reading in tokenize(model.tokenizer, pairs)][:4], model.network.pad_id)
    acts, gradient = model.gradients(batch, SITE)
    read = model.activations(batch, [SITE])[SITE]
    assert torch.allclose(acts[batch.mask], read[batch.mask], atol=1e-5)
    step = 1e-2 * torch.nn.functional.normalize(
        torch.randn(acts.shape, generator=torch.Generator().manual_seed(3)), dim=-1
    )
    step *= batch.mask[..., None]

    def loss(sign: float) -> float:
        push = Push(sign * step)
        return -float(model.edited(push).log_probs(batch).double().sum())

    assert (loss(1) - loss(-1)) / 2 == pytest.approx(float((gradient * step).sum()), rel=2e-2, abs=1e-4)


def test_attribution_equals_the_change_of_loss_when_a_latent_is_removed_a_little(
    model: LanguageModel, random_dictionary: Dictionary, pairs: PairSet
) -> None:
    """Small d·(a − ā) d taken out at every position that predicts a response token changes the loss as the attribution says.

    The mean ā is over answers of both kinds.
    """
    ranking = rank_by_attribution(random_dictionary, model, pairs)
    texts = {
        answer: [r.tokens for r in tokenize(model.tokenizer, pairs) if r.answer == answer]
        for answer in ("careless", "careful")
    }

    batches = {answer: pad(rows, model.network.pad_id) for answer, rows in texts.items()}
    predicting = {
        answer: torch.nn.functional.pad(batch.predicting, (0, 1)) for answer, batch in batches.items()
    }
    activations = {answer: model.activations(batch, [SITE])[SITE] for answer, batch in batches.items()}
    mean = torch.cat([activations[answer][predicting[answer]] for answer in texts]).mean(0)

    def effect(answer: str, latent: int) -> float:
        batch, counted = batches[answer], predicting[answer]
        d = random_dictionary.W_dec[latent]
        along = (activations[answer] - mean) @ d * counted
        step = 1e-3
        loss = [
            -float(model.edited(Push(s * step * along[..., None] * d)).log_probs(batch).double().sum())
            for s in (1, -1)
        ]
        return -(loss[0] - loss[1]) / (2 * step) / int(counted.sum())

    for latent in (0, 5, PLANTED):
        expected = effect("careless", latent) - effect("careful", latent)
        assert float(ranking.scores[latent]) == pytest.approx(expected, rel=0.05, abs=2e-4)
