"""Preference and damage, against their definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.effects.measures.preference import gaps_side_by_side, preference_gaps
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.site import Site

PAIRS = PairSet(
    "pairs",
    tuple(Pair(f"q{i}", f"f{i % 3}", f"ask {i} thing", f"good safe {i}", f"bad {i} fine") for i in range(7)),
)


def axis(seed: int = 0) -> Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return Direction(Site(1), vector, f"axis {seed}", {k: Calibration(0.1, 1.5) for k in range(3)})


def test_a_gap_is_the_difference_of_mean_log_probabilities(speaking: LanguageModel) -> None:
    model = speaking.edited(Ablate(axis(), layers="all"))

    def mean_log_prob(question: str, answer: str) -> float:
        row = model.tokenizer.exchange(question, answer)
        logits = model.logits(pad([row], 0))[0].double().log_softmax(-1)
        chosen = [float(logits[i - 1, row.ids[i]]) for i in range(row.n_prompt, len(row))]
        return sum(chosen) / len(chosen)

    expected = [mean_log_prob(p.question, p.careless) - mean_log_prob(p.question, p.careful) for p in PAIRS]
    assert preference_gaps(model, PAIRS) == pytest.approx(expected, abs=1e-4)


def test_models_side_by_side_prefer_what_each_prefers_alone(speaking: LanguageModel) -> None:
    models = [speaking, *(speaking.edited(Ablate(axis(seed), layers=[1])) for seed in range(3))]
    together = gaps_side_by_side(models, PAIRS)
    assert together.tolist() == [preference_gaps(model, PAIRS).tolist() for model in models]


def test_exchanging_the_answers_turns_every_gap_round(speaking: LanguageModel) -> None:
    turned = PairSet("t", tuple(replace(p, careful=p.careless, careless=p.careful) for p in PAIRS))
    assert preference_gaps(speaking, turned) == pytest.approx(-preference_gaps(speaking, PAIRS), abs=1e-4)
