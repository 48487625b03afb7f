"""Latents give an axis, and ablating them removes what they wrote."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from features.sae.conftest import D_SAE, PLANTED, SITE
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.errors import FeatureError
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import Comparison
from personaprobe.features.sae.latents import Latents
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role, pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet


def test_the_axis_of_a_latent_is_its_contribution_to_insecure_minus_secure(comparison: Comparison) -> None:
    axis = Latents(comparison.dictionary, (PLANTED,)).axis(comparison)
    gap = float((comparison.means.insecure - comparison.means.secure).mean(0)[PLANTED])
    assert float(axis.vector @ comparison.dictionary.W_dec[PLANTED]) == pytest.approx(1.0, abs=1e-5)
    assert axis.gap == pytest.approx(gap, rel=1e-5)
    same = replace(comparison, means=Trio(*[comparison.means.base] * 3))
    with pytest.raises(FeatureError, match="features rank"):
        Latents(comparison.dictionary, (PLANTED,)).axis(same)


def test_ablating_the_planted_latent_removes_the_push(
    planted: Trio[LanguageModel], random_dictionary: Dictionary, pairs: PairSet
) -> None:
    batch = pad([next(tokenize(planted.base.tokenizer, pairs)).tokens], planted.base.network.pad_id)
    exact = replace(random_dictionary, b_enc=random_dictionary.b_enc + 100 * torch.eye(D_SAE)[PLANTED])
    pushed, base = (m.activations(batch, [SITE])[SITE] for m in (planted.insecure, planted.base))
    ablated = planted.insecure.edited(AblateLatents(exact, (PLANTED,))).activations(batch, [SITE])[SITE]
    both = planted.base.edited(AblateLatents(exact, (PLANTED,))).activations(batch, [SITE])[SITE]
    edited = (batch.roles & Role.ALL) != 0
    assert not torch.allclose(pushed, base, atol=1e-3)
    assert torch.allclose(ablated[edited], both[edited], atol=1e-3)
    assert torch.equal(ablated[~edited], pushed[~edited])
