"""Energies, and controls matched on them: also beside a massive token, which outweighs all others in a mean of squares."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.effects.interventions.energy import is_fair, match, measure, total, unfair_layers
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.packing import prefix_tree
from personaprobe.models.tokens import Role, Tokens, pad
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.site import Site

PLANTED = 1000.0
"""How many times larger a planted token's embedding is than it was."""


def axis(seed: int = 0) -> Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return Direction(Site(1), vector, f"axis {seed}", {k: Calibration(0.1, 1.5) for k in range(3)})


def rows(model: LanguageModel) -> list[Tokens]:
    exchanges = [(f"ask {i} thing", f"good safe {i}") for i in range(7)]
    return [model.tokenizer.exchange(question, answer) for question, answer in exchanges]


@pytest.fixture(scope="module")
def planted(tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer]) -> Any:
    """A tiny model in which one word is massive: its embedding, and so its residual stream at every layer."""

    @cache
    def plant(word: str) -> LanguageModel:
        words = word_tokenizer(["ask", "thing", "good", "safe", "bad", "fine", *map(str, range(10))])
        model = tiny_model("llama")
        model.get_input_embeddings().weight[words.hf.convert_tokens_to_ids(word)] *= PLANTED
        return LanguageModel(Checkpoint(f"massive {word}"), wrap(model, words.pad_id), words)

    return plant


def removed_from(model: LanguageModel, ablation: Ablate, layer: int, wanted: Role, word: str = "") -> float:
    """Mean ‖Δh‖² over ordinary tokens of a role, at one layer, from two passes: what a control must match there.

    Ordinary: neither the first of a text nor the planted word.
    """
    batch, site = pad(rows(model), 0), Site(layer)
    before, after = (m.activations(batch, [site])[site] for m in (model, model.edited(ablation)))
    ordinary = ((batch.roles & wanted) != 0) & (batch.positions > 0)
    ordinary &= batch.ids != model.tokenizer.hf.convert_tokens_to_ids(word or "<pad>")
    return float((after - before)[ordinary].square().sum(-1).mean())


@pytest.mark.parametrize("layer", range(3))
@pytest.mark.parametrize(
    ("word", "roles", "matched_on"),
    [
        ("Question:", Role.ALL, Role.RESPONSE),
        ("Question:", Role.PROMPT, Role.PROMPT),
        ("Question:", Role.RESPONSE, Role.RESPONSE),
        ("thing", Role.PROMPT, Role.PROMPT),
        ("safe", Role.ALL, Role.RESPONSE),
    ],
)
def test_beside_a_massive_token_a_matched_control_removes_the_features_energy_from_ordinary_tokens(
    planted: Callable[[str], LanguageModel], word: str, roles: Role, matched_on: Role, layer: int
) -> None:
    model = planted(word)
    feature = Ablate(axis(), layers=[layer], roles=roles)
    wanted = measure(model, feature, rows(model))
    for seed in range(1, 4):
        control, _ = match(model, Ablate(axis(seed), roles=roles), wanted, rows(model))
        removed, expected = (removed_from(model, a, layer, matched_on, word) for a in (control, feature))
        assert removed == pytest.approx(expected, rel=0.1)


def test_energy_is_the_mean_squared_change_of_response_and_of_prompt_tokens(
    speaking: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # read once or not, what texts begin with counts for each of them
    monkeypatch.setattr(prefix_tree, "MIN_SHARED_PREFIX", 1)
    texts = [*rows(speaking), *rows(speaking)[:2]]
    energy = measure(speaking, Ablate(axis()), texts)[Site(1)]
    batch = pad(texts, 0)
    before, after = (
        m.activations(batch, [Site(1)])[Site(1)] for m in (speaking, speaking.edited(Ablate(axis())))
    )
    for moved, role in ((energy.response, Role.RESPONSE), (energy.prompt, Role.PROMPT)):
        change = (after - before)[(batch.roles & role) != 0]
        assert moved.energy == pytest.approx(float(change.square().sum(-1).mean()), rel=1e-4)
        assert 0 < moved.dose < 1


def test_first_tokens_count_where_an_intervention_acts_on_them(
    planted: Callable[[str], LanguageModel],
) -> None:
    model = planted("Question:")
    without, within = (
        measure(model, Ablate(axis(), roles=roles), rows(model))[Site(1)]
        for roles in (Role.ALL, Role.ALL | Role.FIRST)
    )
    assert within.response.energy == pytest.approx(without.response.energy, rel=0.1)
    assert within.prompt.energy > 5 * without.prompt.energy


@pytest.mark.parametrize("seed", range(1, 6))
def test_matched_controls_remove_the_features_energy_at_every_layer(
    speaking: LanguageModel, seed: int
) -> None:
    texts = rows(speaking)
    wanted = measure(speaking, Ablate(axis(), layers="all"), texts)
    matched, energies = match(speaking, Ablate(axis(seed)), wanted, texts)
    measured = measure(speaking, matched, texts)
    for site, energy in wanted.items():
        assert measured[site].matched == pytest.approx(energy.matched, rel=1e-3)
        assert energies[site].matched == pytest.approx(energy.matched, rel=1e-3)
    assert total(measured).response.energy == pytest.approx(total(wanted).response.energy, rel=1e-3)


def test_a_control_that_does_next_to_nothing_is_noticed() -> None:
    asleep = dict.fromkeys(range(10), 0.05)
    overshooting = dict.fromkeys(range(10), 1.0) | {0: 4.0, 9: 3.5, 5: 3.01}
    nearly_fair = dict.fromkeys(range(10), 1.0) | {0: 4.0, 9: 0.1}
    assert unfair_layers(asleep) == tuple(range(10))
    assert not is_fair(asleep)
    assert unfair_layers(overshooting) == (0, 5, 9)
    assert not is_fair(overshooting)
    assert is_fair(nearly_fair)
    assert is_fair({0: 1 / 3, 1: 3.0})
