"""The mean shift of an ablation: it moves means exactly as far, layer by layer, and leaves the variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from personaprobe.effects.interventions.along_direction import Ablate, Intervention
from personaprobe.effects.interventions.mean_shift import Push, fit_mean_shift
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.tokens import Role, Tokens, pad
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.site import Site

LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer]) -> LanguageModel:
    words = word_tokenizer(["ask", "thing", "good", "safe", "bad", "fine", *map(str, range(10))])
    return LanguageModel(Checkpoint("tiny"), wrap(tiny_model("llama"), words.pad_id), words)


@pytest.fixture(scope="module")
def rows(model: LanguageModel) -> list[Tokens]:
    return [model.tokenizer.exchange(f"ask {i} thing", f"good {i} safe {9 - i} fine") for i in range(8)]


def ablation(roles: Role = Role.ALL, coefficient: float = 1.0) -> Ablate:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    calibrations = {layer: Calibration(2.0 + layer, 1.5) for layer in LAYERS}
    direction = Direction(Site(1), vector, "axis", calibrations)
    return Ablate(direction, coefficient, layers=LAYERS, roles=roles)


def projections(
    model: LanguageModel, rows: list[Tokens], edit: Intervention, layer: int, roles: Role
) -> Tensor:
    batch, site = pad(rows, 0), Site(layer)
    activations = model.edited(edit).activations(batch, [site])[site]
    counted = ((batch.roles & roles) != 0) & ((batch.roles & Role.FIRST) == 0)
    return activations[counted] @ ablation().direction.vector


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("roles", "part"), [(Role.ALL, Role.RESPONSE), (Role.PROMPT, Role.PROMPT)])
def test_a_push_puts_the_mean_projection_where_the_ablation_puts_every_projection(
    model: LanguageModel, rows: list[Tokens], layer: int, roles: Role, part: Role
) -> None:
    push = fit_mean_shift(model, ablation(roles), rows)
    pushed = projections(model, rows, push, layer, part)
    assert float(pushed.mean()) == pytest.approx(2.0 + layer, abs=1e-4)
    ablated = projections(model, rows, ablation(roles), layer, part)
    assert float(ablated.std()) < 1e-4
    assert float(pushed.std()) > 1e-2


def test_half_an_ablation_is_half_of_the_way_at_the_first_layer(
    model: LanguageModel, rows: list[Tokens]
) -> None:
    whole, half = (fit_mean_shift(model, ablation(coefficient=x), rows) for x in (1.0, 0.5))
    assert half.amounts[0] == pytest.approx(whole.amounts[0] / 2, rel=1e-5)


def test_a_push_is_known_by_its_amounts_and_leaves_padding_and_other_roles_alone(
    model: LanguageModel, rows: list[Tokens]
) -> None:
    push = fit_mean_shift(model, ablation(Role.RESPONSE), rows)
    other = Push(push.direction, layers=push.layers, roles=push.roles, amounts={**push.amounts, 1: 0.0})
    assert push.describe() != other.describe()
    batch, site = pad(rows, 0), Site(0)
    before, after = (m.activations(batch, [site])[site] for m in (model, model.edited(push)))
    untouched = (batch.roles & Role.RESPONSE) == 0
    assert torch.equal(before[untouched], after[untouched])
    assert not torch.equal(before, after)
