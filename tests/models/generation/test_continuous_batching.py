"""Answers belong to the question and the seed, not to the batch they were decoded in."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personaprobe.effects.interventions.along_direction import Ablate, Steer
from personaprobe.features.directions.direction import Direction, Mark
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import compact_rows, generate
from personaprobe.models.generation.sampling import Draw, Sampling, sample_tokens
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Network
from personaprobe.models.self_check import probe_tokens
from personaprobe.models.tokens import Tokens, pad
from personaprobe.site import Site

SAMPLING = Sampling(max_new_tokens=12, temperature=1.0, seed=3)
NO_END = -1
AXIS = Direction(Site(1), torch.linspace(-1, 1, 32), "test", {k: Mark(0.1, 2.0) for k in range(3)})


def prompts() -> list[Tokens]:
    return [Tokens(row.ids[:4], row.roles[:4]) for row in probe_tokens(128)] + [
        Tokens(row.ids[:2], row.roles[2:4]) for row in probe_tokens(128)
    ]


Answers = list[tuple[int, ...]]


def assert_same(network: Network, asked: list[tuple[Draw, Any]], ones: Answers, others: Answers) -> None:
    """Answers agree, unless a number drawn falls within rounding on the border between two tokens."""
    for (draw, edits), one, other in zip(asked, ones, others, strict=True):
        if one != other:
            n = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
            batch = pad([draw.prompt.followed_by(one[:n])], network.pad_id)
            ends = network.logits(batch, edits)[0, -1].double().softmax(-1).cumsum(-1)
            between = ends[min(one[n], other[n]) : max(one[n], other[n])]
            assert float((between - draw.uniforms(SAMPLING)[n]).abs().max()) < 1e-4, (one, other)


def test_an_answer_does_not_depend_on_its_batch_mates(model: LanguageModel) -> None:
    edits = EditPlan.compose([Ablate(AXIS, "all")], 3)
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(2)]
    together = generate(model.network, draws, SAMPLING, [edits] * len(draws), NO_END)
    alone = [generate(model.network, [draw], SAMPLING, [edits], NO_END)[0] for draw in draws]
    assert_same(model.network, [(draw, edits) for draw in draws], together, alone)


def test_rows_with_edits_of_their_own_are_answered_as_they_would_be_alone(model: LanguageModel) -> None:
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(2)]
    arms = [
        EditPlan(),
        EditPlan.compose([Steer(AXIS, (0,), amount=3.0)], 3),
        EditPlan.compose([Ablate(AXIS, "all")], 3),
    ]
    rows = [edits for edits in arms for _ in draws]
    together = generate(model.network, draws * len(arms), SAMPLING, rows, NO_END)
    alone = [generate(model.network, draws, SAMPLING, [edits] * len(draws), NO_END) for edits in arms]
    asked = [(draw, edits) for edits in arms for draw in draws]
    assert_same(model.network, asked, together, [answer for answers in alone for answer in answers])
    assert alone[0] != alone[1]


def test_samples_of_a_question_differ_and_a_seed_repeats_them(model: LanguageModel) -> None:
    draws = [Draw(prompts()[0], sample) for sample in range(4)]
    first = generate(model.network, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    assert first == generate(model.network, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    assert len(set(first)) > 1
    other = Sampling(SAMPLING.max_new_tokens, SAMPLING.temperature, seed=4)
    assert first != generate(model.network, draws, other, [EditPlan()] * len(draws), NO_END)


@pytest.mark.parametrize("cached", [True, False])
def test_a_prompt_of_several_samples_is_read_once(reference: Network, cached: bool) -> None:
    network = copy.copy(reference)
    network.__class__ = Watched if cached else WatchedUncached
    network.read = []  # type: ignore[attr-defined]
    arms = [EditPlan(), EditPlan.compose([Steer(AXIS, (0,), amount=3.0)], 3)]
    rows = [(Draw(prompt, sample), arm) for arm in arms for prompt in prompts()[:2] for sample in range(3)]
    generate(network, [draw for draw, _ in rows], SAMPLING, [arm for _, arm in rows], NO_END)
    assert network.read[:2] == [4, 12]  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_answers_are_the_same_however_few_are_decoded_together(model: LanguageModel, batch_size: int) -> None:
    """Rows enter as others end, and every one says what it says among all."""
    arms = [EditPlan(), EditPlan.compose([Ablate(AXIS, "all")], 3)]
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(3)]
    rows = [edits for edits in arms for _ in draws]
    free = generate(model.network, draws * 2, SAMPLING, rows, NO_END)
    few = replace(SAMPLING, batch_size=batch_size)
    asked = list(zip(draws * 2, rows, strict=True))
    assert_same(model.network, asked, generate(model.network, draws * 2, few, rows, NO_END), free)


def test_answers_of_every_length_are_those_of_a_run_in_which_none_ends(reference: Network) -> None:
    """Rows leave early, others take their places, and nobody's words are given to another."""
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(3)]
    free = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    end = Counter(token for row in free for token in row).most_common(1)[0][0]
    expected = [row[: row.index(end)] if end in row else row for row in free]
    assert len({len(row) for row in expected}) > 2
    told: list[int] = []
    ended = generate(
        reference, draws, replace(SAMPLING, batch_size=5), [EditPlan()] * len(draws), end, told.append
    )
    alike = [one == other for one, other in zip(ended, expected, strict=True)]
    assert sum(alike) >= len(draws) - 2  # a draw on a border may go either way
    assert sum(told) == len(draws)


@given(st.integers(1, 40), st.data())
def test_rows_close_up_with_few_of_them_moved(n: int, data: st.DataObject) -> None:
    leaving = data.draw(st.sets(st.integers(0, n - 1)))
    order = compact_rows(n, leaving)
    assert sorted(order) == sorted(set(range(n)) - leaving)
    assert sum(new != old for new, old in enumerate(order)) <= len(leaving)


def test_the_cache_changes_no_answer_under_an_intervention(reference: Network, architecture: str) -> None:
    edits = EditPlan.compose([Steer(AXIS, (0, 2), amount=0.7)], 3)
    draws = [Draw(prompt) for prompt in prompts()]
    cached = generate(reference, draws, SAMPLING, [edits] * len(draws), NO_END)

    uncached = copy.copy(reference)
    uncached.__class__ = Uncached
    asked = [(draw, edits) for draw in draws]
    assert_same(reference, asked, generate(uncached, draws, SAMPLING, [edits] * len(draws), NO_END), cached)


class Uncached(HuggingFaceNetwork):
    """Reads everything anew at each step."""

    decoding = Network.decoding


class Watched(HuggingFaceNetwork):
    """Counts the rows of every pass."""

    read: list[int]

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        self.read.append(len(hidden))
        return super().head(hidden)


class WatchedUncached(Watched):
    """The same without a cache."""

    decoding = Network.decoding


def test_generation_is_steered_at_every_step(reference: Network) -> None:
    """An edit seen only by the prompt would leave later steps as they were."""
    seen = []
    edits = EditPlan.of({Site(1): [lambda x, roles: (seen.append(tuple(x.shape[:2])), x)[1]]})
    generate(reference, [Draw(prompts()[0])], SAMPLING, [edits], NO_END)
    assert seen == [(1, 4)] + [(1, 1)] * (SAMPLING.max_new_tokens - 1)


def test_an_answer_ends_at_the_end_token(reference: Network) -> None:
    draws = [Draw(prompt) for prompt in prompts()]
    free = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    end = free[0][5]
    ended = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), end)
    assert ended == [row[: row.index(end)] if end in row else row for row in free]


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
