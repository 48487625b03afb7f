"""Damage on prose and on chat answers, against its definition, with intervals over texts."""

from __future__ import annotations

import math

import pytest
import torch

from personaprobe.effects.interventions.along_direction import Steer
from personaprobe.effects.measures.damage import (
    ReferenceLogProbs,
    TextCost,
    TextLoss,
    divergence,
    perplexity_ratio,
)
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.questions.texts import TextSet
from personaprobe.site import Site
from personaprobe.statistics.intervals import Interval

TEXTS = TextSet(
    "texts", ("the cat sat on the mat", "a longer plain text about the sea and the sky", "the end")
)


@pytest.fixture
def steered(speaking: LanguageModel) -> LanguageModel:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    axis = Direction(Site(1), vector, "axis", {k: Calibration(0.1, 1.5) for k in range(3)})
    return speaking.edited(Steer(axis, 3.0))


@pytest.mark.parametrize("first_tokens", [False, True])
def test_perplexity_is_that_of_the_models_own_logits_with_and_without_what_first_tokens_predict(
    speaking: LanguageModel, first_tokens: bool
) -> None:
    nats = []
    for text in TEXTS:
        row = speaking.tokenizer.text(text)
        logits = speaking.logits(pad([row], 0))[0].double().log_softmax(-1)
        nats += [-float(logits[i - 1, row.ids[i]]) for i in range(1 if first_tokens else 2, len(row))]
    reading = ReferenceLogProbs.of(speaking, TEXTS, first_tokens=first_tokens)
    cost = reading.cost(speaking)
    assert cost.perplexity == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)
    assert reading.own_cost == cost


def test_a_model_does_not_diverge_from_itself_and_does_from_a_steered_one(
    speaking: LanguageModel, steered: LanguageModel
) -> None:
    reading = ReferenceLogProbs.of(speaking, TEXTS)
    same, other = reading.cost(speaking), reading.cost(steered)
    assert same.kl == 0
    assert other.kl > 1e-4


def test_the_totals_are_sums_over_texts_each_in_its_own_place(
    speaking: LanguageModel, steered: LanguageModel
) -> None:
    together = ReferenceLogProbs.of(speaking, TEXTS).cost(steered)
    for text, loss in zip(TEXTS, together.texts, strict=True):
        alone = ReferenceLogProbs.of(speaking, TextSet("one", (text,))).cost(steered)
        assert loss.tokens == len(speaking.tokenizer.text(text)) - 2 == alone.texts[0].tokens
        assert loss.nats == pytest.approx(alone.texts[0].nats, rel=1e-4)
        assert loss.divergence == pytest.approx(alone.texts[0].divergence, rel=1e-3)
    tokens = sum(loss.tokens for loss in together.texts)
    assert together.kl == pytest.approx(sum(loss.divergence for loss in together.texts) / tokens)
    assert together.perplexity == pytest.approx(math.exp(sum(loss.nats for loss in together.texts) / tokens))


def test_on_chat_answers_the_distributions_at_answer_tokens_count_and_no_others(
    speaking: LanguageModel, steered: LanguageModel
) -> None:
    exchanges = [
        ("ask a thing", tuple(speaking.tokenizer.reply("ask a thing", "good and safe"))),
        ("why", ()),
    ]
    cost = ReferenceLogProbs.of_answers(speaking, exchanges).cost(steered)
    row = speaking.tokenizer.prompt(exchanges[0][0]).followed_by(exchanges[0][1])
    before, after = (
        model.logits(pad([row], 0))[0, row.n_prompt - 1 : -1].double().log_softmax(-1)
        for model in (speaking, steered)
    )
    expected = float((before.exp() * (before - after)).sum())
    assert [text.tokens for text in cost.texts] == [len(exchanges[0][1]), 0]
    assert cost.texts[0].divergence == pytest.approx(expected, rel=1e-3)
    assert cost.kl == pytest.approx(expected / len(exchanges[0][1]), rel=1e-3)


def test_an_edit_that_changes_nothing_costs_nothing_and_surely(speaking: LanguageModel) -> None:
    reference = ReferenceLogProbs.of(speaking, TEXTS)
    same = reference.cost(speaking)
    assert perplexity_ratio(same, reference.own_cost) == Interval(1.0, 1.0, 1.0)
    assert divergence(same) == Interval(0.0, 0.0, 0.0)


def test_an_intervals_value_is_the_ratio_of_pooled_perplexities(
    speaking: LanguageModel, steered: LanguageModel
) -> None:
    reference = ReferenceLogProbs.of(speaking, TEXTS)
    cost = reference.cost(steered)
    ratio, kl = perplexity_ratio(cost, reference.own_cost), divergence(cost)
    assert ratio.value == pytest.approx(cost.perplexity / reference.own_cost.perplexity)
    assert kl.value == pytest.approx(cost.kl)
    assert ratio.low < ratio.value < ratio.high
    assert 0 <= kl.low < kl.value < kl.high


def test_a_cost_without_its_texts_has_no_interval() -> None:
    estimated = TextCost(12.0, 0.1)
    assert not perplexity_ratio(estimated, estimated).defined
    assert not divergence(estimated).defined


def test_a_cost_survives_plain_data() -> None:
    cost = TextCost.pooled([TextLoss(20.0, 0.5, 8), TextLoss(31.0, 0.25, 12)])
    row = {
        "perplexity": cost.perplexity,
        "kl": cost.kl,
        "texts": [
            {"nats": 20.0, "divergence": 0.5, "tokens": 8},
            {"nats": 31.0, "divergence": 0.25, "tokens": 12},
        ],
    }
    assert TextCost.from_dict(row) == cost
