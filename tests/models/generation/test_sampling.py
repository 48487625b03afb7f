"""Tokens are sampled with the model's probabilities, and a random number always gives the same token."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personaprobe.models.generation.sampling import sample_tokens


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=2, max_size=300), st.floats(0, 1, exclude_max=True))
def test_a_draw_inverts_the_cumulative_distribution(logits: list[float], uniform: float) -> None:
    values = torch.tensor([logits])
    token = int(sample_tokens(values, torch.tensor([uniform], dtype=torch.float64), 1.0))
    cumulative = values.softmax(-1).double().cumsum(-1)[0]
    below = float(cumulative[token - 1]) if token else 0.0
    assert below - 1e-6 <= uniform * float(cumulative[-1]) <= float(cumulative[token]) + 1e-6


def test_draws_follow_the_models_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = sample_tokens(logits.expand(20_000, -1), uniforms, 0.7)
    rates = torch.bincount(drawn, minlength=4) / 20_000
    assert torch.allclose(rates, (logits[0] / 0.7).softmax(-1), atol=0.015)


def test_temperature_zero_takes_the_most_probable() -> None:
    assert (
        int(sample_tokens(torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([0.999], dtype=torch.float64), 0))
        == 1
    )
