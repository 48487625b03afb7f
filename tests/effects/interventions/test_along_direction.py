"""The algebra of interventions, on every architecture and every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personaprobe.effects.interventions.along_direction import (
    Ablate,
    Along,
    Cap,
    Clamp,
    Steer,
    refuse_no_number,
)
from personaprobe.errors import FeatureError, SiteError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import Batch, Role, pad
from personaprobe.site import Site

LAYERS = 3
EXACT = 2e-5
"""Rounding of float32 at the size of these activations."""


def direction(seed: int = 0, layer: int = 1, d_model: int = 32) -> Direction:
    vector = torch.randn(d_model, generator=torch.Generator().manual_seed(seed))
    calibrations = {k: Calibration(reference=0.3 * k - 0.2, gap=1.0 + k) for k in range(LAYERS)}
    return Direction(Site(layer, "resid_post"), vector, f"test {seed}", calibrations)


def batch_of(model: LanguageModel) -> Batch:
    return pad(probe_tokens(model.network.vocab_size), model.network.pad_id)


def read(model: LanguageModel, layer: int, *edits: Along) -> torch.Tensor:
    site = Site(layer, "resid_post")
    return model.edited(*edits).activations(batch_of(model), [site])[site].float()


def edited_tokens(model: LanguageModel) -> torch.Tensor:
    """Where interventions act: at neither padding nor first tokens."""
    return (batch_of(model).roles & Role.ALL) != 0


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.allclose(a, b, atol=EXACT * float(b.abs().max()), rtol=0))


def test_no_intervention_is_bitwise_the_bare_model(model: LanguageModel) -> None:
    batch = batch_of(model)
    assert torch.equal(model.edited().logits(batch), model.logits(batch))


def test_steering_by_nothing_is_the_identity(model: LanguageModel) -> None:
    batch = batch_of(model)
    assert torch.equal(model.edited(Steer(direction(), 0.0)).logits(batch), model.logits(batch))


def test_the_second_argument_is_the_coefficient() -> None:
    axis = direction()
    assert Steer(axis, 2) == Steer(axis, coefficient=2)
    assert Steer(axis, 2).move(1).shift == 2 * axis.calibration(1).gap
    assert Ablate(axis, 0.5).coefficient == 0.5
    assert Clamp(axis, 0.5).coefficient == 0.5


@pytest.mark.parametrize("wrong", [[3], "all", {1: "x"}])
def test_layers_in_place_of_the_coefficient_are_refused(wrong: object) -> None:
    with pytest.raises(FeatureError, match=r"is no number; give layers by keyword: Steer\(d, layers=\[3\]\)"):
        refuse_no_number(wrong, "Steer(d, layers=[3])")


def test_a_run_folder_of_before_knows_the_intervention_by_the_same_keys() -> None:
    axis = direction()
    common = {"direction": axis.digest, "roles": ["prompt", "response"]}
    assert Ablate(axis, 0.5, layers=(1,)).describe() == {
        "kind": "Ablate", **common, "layers": (1,), "to": "reference", "strength": 0.5
    }  # fmt: skip
    assert Steer(axis, 2.0).describe() == {"kind": "Steer", **common, "layers": None, "amount": 2.0}
    assert Clamp(axis, 1.0).describe() == {"kind": "Clamp", **common, "layers": None, "reading": 1.0}
    assert Cap(axis).describe() == {
        "kind": "Cap", **common, "layers": None, "low": float("-inf"), "high": 0.0
    }  # fmt: skip


def test_steering_twice_is_steering_by_the_sum(model: LanguageModel) -> None:
    twice = read(model, 2, Steer(direction(), 0.5), Steer(direction(), -1.25))
    assert close(twice, read(model, 2, Steer(direction(), -0.75)))


def test_ablation_is_idempotent(model: LanguageModel) -> None:
    once = Ablate(direction(), layers="all")
    assert close(read(model, 2, once, once), read(model, 2, once))


@pytest.mark.parametrize("layer", range(LAYERS))
def test_after_ablation_every_selected_position_reads_exactly_the_reference(
    model: LanguageModel, layer: int
) -> None:
    ablated = read(model, layer, Ablate(direction(), layers="all"))[edited_tokens(model)]
    projections = direction().read(ablated, layer)
    assert torch.allclose(projections, torch.zeros_like(projections), atol=EXACT * float(ablated.abs().max()))


def test_ablating_to_zero_projects_the_direction_out(model: LanguageModel) -> None:
    ablated = read(model, 1, Ablate(direction(), to="zero"))[edited_tokens(model)]
    left = ablated @ direction().vector
    assert torch.allclose(left, torch.zeros_like(left), atol=EXACT * float(ablated.abs().max()))


@pytest.mark.parametrize(
    "intervention",
    [Ablate(direction()), Steer(direction(), 2.0), Clamp(direction(), 1.0), Cap(direction())],
    ids=lambda i: type(i).__name__,
)
class TestEveryIntervention:
    def test_it_changes_only_the_direction(self, model: LanguageModel, intervention: Along) -> None:
        change = read(model, 1, intervention) - read(model, 1)
        across = change - (change @ direction().vector)[..., None] * direction().vector
        assert float(across.abs().max()) <= EXACT * float(read(model, 1).abs().max())
        assert float(change.abs().max()) > 0

    def test_it_never_touches_padding(self, model: LanguageModel, intervention: Along) -> None:
        batch = batch_of(model)
        edit = intervention.edits(LAYERS)[Site(1, "resid_post")]
        activations = torch.randn(*batch.ids.shape, 32)
        assert torch.equal(edit(activations, batch.roles)[~batch.mask], activations[~batch.mask])

    def test_it_leaves_first_tokens_bitwise_alone(self, model: LanguageModel, intervention: Along) -> None:
        everywhere = replace(intervention, layers="all")
        batch, sites = batch_of(model), [Site(layer) for layer in range(LAYERS)]
        plain, edited = (m.activations(batch, sites) for m in (model, model.edited(everywhere)))
        for site in sites:
            assert torch.equal(edited[site][:, 0], plain[site][:, 0])
        assert not torch.equal(edited[sites[-1]], plain[sites[-1]])

    def test_it_touches_only_the_roles_asked_for(self, model: LanguageModel, intervention: Along) -> None:
        batch = batch_of(model)
        response = (batch.roles & Role.RESPONSE) != 0
        plain, edited = read(model, 1), read(model, 1, replace(intervention, roles=Role.RESPONSE))
        assert torch.equal(edited[batch.mask & ~response], plain[batch.mask & ~response])
        assert not torch.equal(edited[response], plain[response])

    def test_it_is_gone_when_the_block_ends(self, model: LanguageModel, intervention: Along) -> None:
        batch = batch_of(model)
        before = model.logits(batch)
        with model.edited(intervention) as edited:
            assert not torch.equal(edited.logits(batch), before)
        assert torch.equal(model.logits(batch), before)

    def test_a_row_does_not_depend_on_its_batch_mates(
        self, model: LanguageModel, intervention: Along
    ) -> None:
        rows = probe_tokens(model.network.vocab_size)
        edited = model.edited(intervention)
        together = edited.logits(pad(rows, 0))[1, : len(rows[1])]
        alone = edited.logits(pad(rows[1:], 0))[0]
        assert torch.allclose(together, alone, atol=1e-3 * float(alone.abs().max()))


def test_first_tokens_are_edited_where_they_are_named(model: LanguageModel) -> None:
    named = read(model, 1, Ablate(direction(), roles=Role.ALL | Role.FIRST))
    projections = direction().read(named[batch_of(model).mask])
    assert torch.allclose(projections, torch.zeros_like(projections), atol=EXACT * float(named.abs().max()))


def test_interventions_compose_in_the_order_given(model: LanguageModel) -> None:
    steer, ablate = Steer(direction(), 1.0), Ablate(direction())
    assert not close(read(model, 1, steer, ablate), read(model, 1, ablate, steer))
    assert close(read(model, 1, steer, ablate), read(model, 1, ablate))


def test_clamping_sets_the_reading(model: LanguageModel) -> None:
    held = read(model, 1, Clamp(direction(), 0.75))[edited_tokens(model)]
    projections = direction().read(held)
    assert torch.allclose(projections, torch.full_like(projections, 0.75), atol=1e-3)


def test_capping_leaves_what_is_inside_the_range_alone(model: LanguageModel) -> None:
    plain = read(model, 1)
    readings = direction().read(plain)
    middle = float(readings[edited_tokens(model)].median())
    capped = read(model, 1, Cap(direction(), high=middle))
    inside = (readings < middle - 1e-4) & edited_tokens(model)  # on the very border, rounding decides
    assert inside.any()
    assert torch.equal(capped[inside], plain[inside])
    assert float(direction().read(capped)[edited_tokens(model)].max()) <= middle + 1e-3


@settings(max_examples=50, deadline=None)
@given(
    coefficients=st.lists(st.floats(-5, 5), min_size=2, max_size=4),
    layer=st.integers(0, LAYERS - 1),
    seed=st.integers(0, 5),
)
def test_steering_adds_up_for_any_amounts_at_any_layer(
    coefficients: list[float], layer: int, seed: int
) -> None:
    axis = direction(seed)
    activations = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(seed))
    roles = torch.full((2, 5), int(Role.RESPONSE))
    site = Site(layer, "resid_post")
    moved = activations
    for coefficient in coefficients:
        moved = Steer(axis, coefficient, layers=(layer,)).edits(LAYERS)[site](moved, roles)
    at_once = Steer(axis, sum(coefficients), layers=(layer,)).edits(LAYERS)[site](activations, roles)
    assert torch.allclose(moved, at_once, atol=1e-4)
    gained = axis.read(at_once, layer) - axis.read(activations, layer)
    assert torch.allclose(gained, torch.full_like(gained, sum(coefficients)), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(coefficient=st.floats(0, 2), seed=st.integers(0, 5))
def test_ablation_goes_the_share_of_the_way_that_its_coefficient_says(coefficient: float, seed: int) -> None:
    axis, roles = direction(seed), torch.full((1, 4), int(Role.PROMPT))
    activations = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(seed))
    edited = Ablate(axis, coefficient).edits(LAYERS)[axis.site](activations, roles)
    assert torch.allclose(axis.read(edited), (1 - coefficient) * axis.read(activations), atol=1e-4)


def test_a_layer_the_model_does_not_have_is_refused_before_anything_runs(model: LanguageModel) -> None:
    with pytest.raises(SiteError, match="layer 9 is out of range: the model has layers 0 to 2"):
        model.edited(Ablate(direction(), layers=[9]))


def test_a_layer_without_calibration_is_refused_with_a_way_out() -> None:
    axis = Direction(Site(1), torch.ones(32), "test")
    with pytest.raises(FeatureError, match=r'not calibrated at layer 1 .*ablate to="zero"'):
        Ablate(axis).edits(LAYERS)[Site(1)](torch.ones(1, 1, 32), torch.ones(1, 1, dtype=torch.long))


def test_a_direction_of_another_model_is_refused(model: LanguageModel) -> None:
    other = Direction(Site(1), torch.ones(16), "other", {1: Calibration(0.0, 1.0)})
    with pytest.raises(FeatureError, match="d_model 16 and the model 32"):
        model.edited(Ablate(other)).logits(batch_of(model))
