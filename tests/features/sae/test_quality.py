"""Quality is what its definitions say, on dictionaries whose quality is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from features.sae.conftest import SITE
from personaprobe.errors import DataError, FeatureError
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.activation_functions import JumpReLU, ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.quality import MeasuredQuality, measure_quality, refuse_poor_dictionary
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.questions.pairs import PairSet


def texts_of(model: LanguageModel, pairs: PairSet) -> list[Tokens]:
    return [reading.tokens for reading in tokenize(model.tokenizer, pairs)]


def test_a_perfect_dictionary_explains_everything_and_costs_nothing(
    model: LanguageModel, pairs: PairSet
) -> None:
    eye = torch.eye(model.d_model)
    both = torch.cat([eye, -eye])
    perfect = Dictionary(
        SITE, both.T.contiguous(), torch.zeros(len(both)), both, torch.zeros(model.d_model), ReLU()
    )
    quality = measure_quality(perfect, model, texts_of(model, pairs)).quality
    assert quality.explained_variance == pytest.approx(1.0, abs=1e-6)
    assert quality.l0 == pytest.approx(model.d_model, rel=1e-3)
    assert quality.loss_reconstructed == pytest.approx(quality.loss, abs=1e-4)
    assert quality.loss_recovered == pytest.approx(1.0, abs=1e-2)
    assert quality.dead == 0.0


def test_a_dictionary_without_activity_explains_nothing_and_is_all_dead(
    model: LanguageModel, pairs: PairSet
) -> None:
    texts = texts_of(model, pairs)
    width = model.d_model
    silent = Dictionary(
        SITE,
        torch.eye(width),
        torch.zeros(width),
        torch.eye(width),
        torch.zeros(width),
        JumpReLU(torch.full((width,), 1e9)),
    )
    quality = measure_quality(silent, model, texts).quality
    assert quality.explained_variance <= 0.0
    assert (quality.dead, quality.l0) == (1.0, 0.0)
    share = {"base": quality.explained_variance}
    with pytest.raises(FeatureError, match="--floor"):
        refuse_poor_dictionary(silent, share)
    refuse_poor_dictionary(silent, share, floor=float("-inf"))


def test_the_histogram_counts_every_latent_in_its_bin(model: LanguageModel, pairs: PairSet) -> None:
    density = torch.tensor([0.0, 0.0, 5e-5, 1e-4, 2e-4, 0.05, 0.1, 0.9, 1.0])
    assert replace(measured(model, pairs), firing_rates=density).histogram == (2, 2, 1, 0, 2, 2)


def measured(model: LanguageModel, pairs: PairSet) -> MeasuredQuality:
    eye = torch.eye(model.d_model)
    plain = Dictionary(SITE, eye, torch.zeros(len(eye)), eye, torch.zeros(len(eye)), ReLU())
    return measure_quality(plain, model, texts_of(model, pairs))


def test_quality_counts_each_token_but_the_first_once(model: LanguageModel, pairs: PairSet) -> None:
    texts = texts_of(model, pairs)
    eye = torch.eye(model.d_model)
    sae = Dictionary(SITE, eye, torch.zeros(len(eye)), eye, torch.zeros(len(eye)), ReLU())
    assert measure_quality(sae, model, texts).quality.n_tokens == sum(len(t) - 1 for t in texts)  # type: ignore[arg-type, misc]
    with pytest.raises(DataError, match="no text"):
        measure_quality(sae, model, [])


def test_a_dictionary_of_another_model_is_refused(model: LanguageModel, pairs: PairSet) -> None:
    wide = torch.eye(model.d_model + 1)
    other = Dictionary(SITE, wide, torch.zeros(len(wide)), wide, torch.zeros(len(wide)), ReLU())
    with pytest.raises(FeatureError, match="another model"):
        measure_quality(other, model, texts_of(model, pairs))
