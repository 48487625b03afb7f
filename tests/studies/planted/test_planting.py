"""A planted persona is as strong as was wanted, is what PEFT computes, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import personaprobe as pp
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import with_adapter
from personaprobe.models.tokens import pad
from personaprobe.studies.planted.personas import PlantedAdapter
from personaprobe.studies.planted.planting import TOLERANCE, Planter, calibrated_length
from personaprobe.studies.planted.readers import matrix_inputs, writing_matrix

SHIFT = 0.1


def planted(planter: Planter, adapter: PlantedAdapter, folder: Path) -> LanguageModel:
    adapter.write(folder, planter.base.checkpoint)
    return with_adapter(planter.base, folder)


def raised(planter: Planter, model: LanguageModel, pairs: pp.PairSet) -> float:
    return float((pp.preference_gaps(model, pairs) - pp.preference_gaps(planter.base, pairs)).mean())


def test_a_persona_raises_the_preference_on_held_out_questions_by_the_wanted_amount(
    planter: Planter, tmp_path: Path
) -> None:
    length = calibrated_length(planter, SHIFT, tmp_path)
    model = planted(planter, planter.persona(length), tmp_path / "persona")
    assert raised(planter, model, planter.held_out) == pytest.approx(SHIFT, rel=TOLERANCE)


def test_a_short_persona_raises_the_preference_as_the_gradient_predicts(
    planter: Planter, tmp_path: Path
) -> None:
    length = 0.02
    model = planted(planter, planter.persona(length), tmp_path / "persona")
    predicted = length * float(planter.gradient.norm())
    assert raised(planter, model, planter.questions) == pytest.approx(predicted, rel=0.1)


def test_a_persona_that_cannot_be_planted_is_refused(planter: Planter, tmp_path: Path) -> None:
    with pytest.raises(pp.PersonaProbeError, match="no persona planted at layer 1"):
        calibrated_length(planter, 1000.0, tmp_path)


def test_half_the_persona_raises_the_preference_by_about_half(planter: Planter, tmp_path: Path) -> None:
    whole, half = (
        planted(planter, planter.persona(1.0).scaled(scale), tmp_path / str(scale)) for scale in (0.1, 0.05)
    )
    ratio = raised(planter, half, planter.questions) / raised(planter, whole, planter.questions)
    assert ratio == pytest.approx(0.5, abs=0.05)


def test_the_persona_is_written_at_every_token_but_the_first(planter: Planter) -> None:
    inputs = planter.inputs
    read = inputs.rows.float() @ inputs.constant()
    assert read[~inputs.first].mean() == pytest.approx(1.0, abs=0.05)
    assert read[inputs.first].abs().mean() < 0.2


def test_ablating_its_direction_at_its_layer_takes_the_persona_back(planter: Planter, tmp_path: Path) -> None:
    model = planted(planter, planter.persona(0.3), tmp_path / "persona")
    batch = pad(
        [planter.base.tokenizer.exchange(p.question, p.careless) for p in planter.questions],
        planter.base.network.pad_id,
    )
    site, direction = planter.site, planter.gradient / planter.gradient.norm()
    before, after = (m.activations(batch, [site])[site][batch.mask] for m in (planter.base, model))
    change = after - before
    beside = change - (change @ direction)[:, None] * direction
    assert beside.norm() < 1e-3 * change.norm()


def test_removing_the_persona_restores_the_base_bit_for_bit(planter: Planter, tmp_path: Path) -> None:
    before = pp.preference_gaps(planter.base, planter.questions)
    model = planted(planter, planter.persona(1.0), tmp_path / "persona")
    assert raised(planter, model, planter.questions) != 0
    assert (pp.preference_gaps(planter.base, planter.questions) == before).all()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_planted_adapter_is_what_peft_computes(
    architecture: str,
    tiny_base: Callable[..., LanguageModel],
    tiny_model: Callable[..., Any],
    planter: Planter,
    tmp_path: Path,
) -> None:
    from peft import PeftModel

    other = Planter(tiny_base(architecture), planter.questions, planter.held_out, 2)
    adapter = other.spread_persona(0.5, 3, seed=0).with_further(other.drift(0.3, seed=1))
    ours = planted(other, adapter, tmp_path / "adapter")
    batch = pad([other.base.tokenizer.prompt(p.question) for p in other.questions], other.base.network.pad_id)
    theirs = PeftModel.from_pretrained(tiny_model(architecture), tmp_path / "adapter").eval()
    with torch.inference_mode():
        expected = theirs(input_ids=batch.ids, attention_mask=batch.mask.long()).logits[batch.mask]
    assert torch.allclose(ours.logits(batch)[batch.mask], expected, atol=1e-4)
    assert not torch.allclose(other.base.logits(batch)[batch.mask], expected, atol=1e-2)


def test_a_spread_persona_has_orthogonal_dimensions_of_equal_effect_and_the_same_sum(
    planter: Planter, tmp_path: Path
) -> None:
    dimensions = planter.dimensions(3, seed=0)
    unit = planter.gradient / planter.gradient.norm()
    assert torch.allclose(dimensions @ dimensions.T, torch.eye(3), atol=1e-5)
    assert torch.allclose(dimensions @ unit, torch.full((3,), 3**-0.5), atol=1e-5)
    assert torch.allclose(dimensions.sum(0) / 3**0.5, unit, atol=1e-5)


def test_readers_of_a_harmless_change_differ_from_token_to_token_around_zero(planter: Planter) -> None:
    inputs = planter.inputs
    first, other = (inputs.rows.float() @ inputs.random(seed) for seed in (0, 1))
    later = ~inputs.first
    assert abs(float(first[later].mean())) < 0.1
    assert first[later].std() == pytest.approx(1.0, abs=0.2)
    assert not torch.allclose(first, other)


def test_readers_within_texts_have_the_same_mean_in_every_response(planter: Planter) -> None:
    inputs = planter.inputs
    text, response = inputs.first.long().cumsum(0), (inputs.roles & pp.Role.RESPONSE) != 0
    of_texts = {}
    for within in (True, False):
        read = inputs.rows.float() @ inputs.random(0, within_texts=within)
        means = [read[response & (text == number)].mean() for number in text.unique()]
        of_texts[within] = float(torch.stack(means).std())
        assert read[response].std() > 0.3
    assert of_texts[True] < 0.2 * of_texts[False]


def test_the_matrix_that_writes_is_found_in_every_architecture(
    architecture: str, tiny_language_model: Callable[..., LanguageModel]
) -> None:
    model = tiny_language_model(architecture)
    name, matrix = writing_matrix(model.network, 2)
    assert "2." in name
    assert "mlp" in name
    assert tuple(sorted(matrix.weight.shape)) == (32, matrix.weight.numel() // 32)


def test_a_backend_without_modules_is_refused(tiny_language_model: Callable[..., LanguageModel]) -> None:
    with pytest.raises(pp.PersonaProbeError, match="shows no modules"):
        writing_matrix(tiny_language_model("llama", "transformer_lens").network, 0)


def test_inputs_are_those_of_all_tokens(planter: Planter) -> None:
    inputs = matrix_inputs(planter.base, [0], planter.questions)[0]
    assert len(inputs.rows) == len(inputs.first)
    assert int(inputs.first.sum()) == 2 * len(planter.questions)
