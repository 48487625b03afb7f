"""A dictionary encodes, restricts, scales and identifies itself as documented, and refuses wrong shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.site import Site
from random_dictionaries import ACTIVATIONS, D_MODEL, D_SAE, ROWS, jumping, numbers, random_dictionary
from type_checker import unchecked_types


@pytest.fixture(params=ACTIVATIONS)
def dictionary(request: pytest.FixtureRequest) -> Dictionary:
    return random_dictionary(request.param)


@unchecked_types()
def test_weights_that_are_not_numbers_or_do_not_fit_are_refused() -> None:
    with pytest.raises(FeatureError, match="NaN"):
        jumping(b_dec=torch.full((D_MODEL,), float("nan")))
    with pytest.raises(FeatureError, match="W_dec has shape"):
        jumping(W_dec=numbers(D_SAE, D_MODEL + 1))


def test_latents_out_of_range_and_activations_of_another_model_are_refused() -> None:
    sae = jumping()
    for latents in ([D_SAE], [-1], [], [3, 3]):
        with pytest.raises(FeatureError, match=f"0 to {D_SAE - 1}"):
            sae.encode_latents(ROWS, latents)
    with pytest.raises(FeatureError, match="another model's"):
        sae.encode(numbers(2, D_MODEL + 1))


def test_some_latents_are_encoded_as_among_all(dictionary: Dictionary) -> None:
    assert torch.allclose(
        dictionary.encode_latents(ROWS, [40, 2, 7]), dictionary.encode(ROWS)[:, [40, 2, 7]], atol=1e-6
    )


def test_higher_thresholds_leave_fewer_latents_active_at_the_same_strength() -> None:
    before = jumping(card={"quality": {}, "model": "demo"})
    after = before.with_scaled_thresholds(1.5)
    was, now = before.encode(ROWS), after.encode(ROWS)
    assert 0 < int((now > 0).sum()) < int((was > 0).sum())
    assert torch.equal(now[now > 0], was[now > 0])
    assert after.with_scaled_thresholds(2.0).card == {"model": "demo", "threshold_scale": 3.0}
    assert after.digest != before.digest


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_thresholds_are_scaled_by_a_number_above_zero(scale: float) -> None:
    with pytest.raises(FeatureError, match="above 0"):
        jumping().with_scaled_thresholds(scale)


def test_a_dictionary_without_thresholds_has_none_to_scale() -> None:
    with pytest.raises(FeatureError, match="only JumpReLU"):
        jumping(activation=TopK(6)).with_scaled_thresholds(1.1)


def test_a_latent_is_a_direction_along_its_decoder_row(dictionary: Dictionary) -> None:
    direction, row = dictionary.direction(7), dictionary.W_dec[7]
    assert (direction.site, direction.source) == (Site(3), "sae:planted/7")
    assert torch.allclose(direction.vector, row / row.norm(), atol=1e-6)


def test_identity_is_the_content_and_not_the_name(dictionary: Dictionary) -> None:
    assert replace(dictionary, name="other").digest == dictionary.digest
    assert replace(dictionary, b_dec=dictionary.b_dec + 1e-3).digest != dictionary.digest
