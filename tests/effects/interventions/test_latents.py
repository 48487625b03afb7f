"""Ablating latents takes away what they wrote and nothing else, on every architecture and backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.features.sae.activation_functions import ActivationFunction, JumpReLU, ReLU, TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import Batch, Role, pad
from personaprobe.site import Site

D_MODEL, D_SAE, SITE = 32, 80, Site(1)
EXACT = 2e-5


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dictionary(activation: ActivationFunction) -> Dictionary:
    rows = torch.nn.functional.normalize(numbers(D_SAE, D_MODEL, seed=1), dim=-1)
    return Dictionary(
        SITE, rows.T.contiguous(), numbers(D_SAE, seed=2), rows, numbers(D_MODEL, seed=3), activation
    )


ACTIVATIONS: dict[str, ActivationFunction] = {
    "relu": ReLU(),
    "jumprelu": JumpReLU(numbers(D_SAE, seed=4).abs()),
    "topk": TopK(12),
}


def batch_of(model: LanguageModel) -> Batch:
    return pad(probe_tokens(model.network.vocab_size), model.network.pad_id)


def read(model: LanguageModel, *edits: AblateLatents | Ablate) -> torch.Tensor:
    return model.edited(*edits).activations(batch_of(model), [SITE])[SITE].float()


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.allclose(a, b, atol=EXACT * float(b.abs().max()), rtol=0))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_the_latents_wrote_is_gone_and_the_rest_is_untouched(model: LanguageModel, name: str) -> None:
    sae = dictionary(ACTIVATIONS[name])
    before, mask = read(model), (batch_of(model).roles & Role.ALL) != 0
    latents = tuple(sae.encode(before)[mask].sum(0).topk(3).indices.tolist())
    written = sae.encode(before)[..., list(latents)] @ sae.W_dec[list(latents)]
    assert float(written[mask].abs().max()) > 0
    after = read(model, AblateLatents(sae, latents))
    assert close(after[mask], (before - written)[mask])
    assert torch.equal(after[~mask], before[~mask])


def test_the_coefficient_scales_the_change_and_nothing_is_the_identity(model: LanguageModel) -> None:
    ablation = AblateLatents(dictionary(ReLU()), (3, 40))
    before, whole = read(model), read(model, ablation)
    assert close(read(model, replace(ablation, coefficient=0.5)), (before + whole) / 2)
    assert torch.equal(read(model, replace(ablation, coefficient=0.0)), before)


def test_only_the_selected_tokens_are_touched(model: LanguageModel) -> None:
    ablation = AblateLatents(dictionary(ReLU()), (3, 40), roles=Role.RESPONSE)
    before, after = read(model), read(model, ablation)
    responses = (batch_of(model).roles & Role.RESPONSE) != 0
    assert torch.equal(after[~responses], before[~responses])
    assert not torch.equal(after[responses], before[responses])


def test_a_latent_that_never_fires_changes_no_bit(model: LanguageModel) -> None:
    silent = dictionary(JumpReLU(torch.full((D_SAE,), 1e9)))
    assert torch.equal(read(model, AblateLatents(silent, (5,))), read(model))


def test_one_positive_latent_is_an_ablation_to_where_it_falls_silent(reference: object) -> None:
    """Where encoder and decoder row are one unit vector d and the latent fires, x − (x·d + b) d has x·d = −b."""
    d = torch.nn.functional.normalize(numbers(D_MODEL), dim=0)
    sae = Dictionary(
        SITE, d[:, None].clone(), torch.tensor([5.0]), d[None].clone(), torch.zeros(D_MODEL), ReLU(), False
    )
    x = numbers(50, D_MODEL, seed=9)
    roles = torch.full((50,), int(Role.RESPONSE))
    after = AblateLatents(sae, (0,)).edits(3)[SITE](x, roles)
    along = Ablate(Direction(SITE, d, "d", {1: Calibration(-5.0, 1.0)})).edits(3)[SITE](x, roles)
    fires = x @ d > -5.0
    assert bool(fires.all())
    assert torch.allclose(after, along, atol=1e-4)


def test_a_latent_out_of_range_is_refused() -> None:
    with pytest.raises(FeatureError, match="0 to 79"):
        AblateLatents(dictionary(ReLU()), (80,))


def test_order_does_not_tell_two_ablations_apart_and_strength_does() -> None:
    sae = dictionary(ReLU())
    assert AblateLatents(sae, (3, 40)).describe() == AblateLatents(sae, (40, 3)).describe()
    assert AblateLatents(sae, (3,)).describe() != AblateLatents(sae, (3,), 0.5).describe()
