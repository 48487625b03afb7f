"""Answers depend on the question and the seed, not on the batch they were decoded in."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.effects.interventions.along_direction import Ablate, Steer
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import compact_rows, generate
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Network
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import Tokens, pad
from personaprobe.site import Site

SAMPLING = Sampling(max_new_tokens=12, temperature=1.0, seed=3)
NO_END = (-1,)
AXIS = Direction(Site(1), torch.linspace(-1, 1, 32), "test", {k: Calibration(0.1, 2.0) for k in range(3)})


def prompts() -> list[Tokens]:
    return [Tokens(row.ids[:4], row.roles[:4]) for row in probe_tokens(128)] + [
        Tokens(row.ids[:2], row.roles[2:4]) for row in probe_tokens(128)
    ]


Answers = list[tuple[int, ...]]


def assert_same(network: Network, requests: list[tuple[Draw, Any]], ones: Answers, others: Answers) -> None:
    """Answers agree, unless a random number falls within rounding on the border between two tokens."""
    for (draw, edits), one, other in zip(requests, ones, others, strict=True):
        if one != other:
            n = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
            batch = pad([draw.prompt.followed_by(one[:n])], network.pad_id)
            ends = network.logits(batch, edits)[0, -1].double().softmax(-1).cumsum(-1)
            between = ends[min(one[n], other[n]) : max(one[n], other[n])]
            assert float((between - draw.uniforms(SAMPLING)[n]).abs().max()) < 1e-4, (one, other)


def test_an_answer_does_not_depend_on_its_batch_mates(model: LanguageModel) -> None:
    edits = EditPlan.compose([Ablate(AXIS, layers="all")], 3)
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(2)]
    together = generate(model.network, draws, SAMPLING, [edits] * len(draws), NO_END)
    alone = [generate(model.network, [draw], SAMPLING, [edits], NO_END)[0] for draw in draws]
    assert_same(model.network, [(draw, edits) for draw in draws], together, alone)


def test_rows_with_different_edits_are_answered_as_each_would_be_alone(model: LanguageModel) -> None:
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(2)]
    arms = [
        EditPlan(),
        EditPlan.compose([Steer(AXIS, 3.0, layers=(0,))], 3),
        EditPlan.compose([Ablate(AXIS, layers="all")], 3),
    ]
    rows = [edits for edits in arms for _ in draws]
    together = generate(model.network, draws * len(arms), SAMPLING, rows, NO_END)
    alone = [generate(model.network, draws, SAMPLING, [edits] * len(draws), NO_END) for edits in arms]
    requests = [(draw, edits) for edits in arms for draw in draws]
    assert_same(model.network, requests, together, [answer for answers in alone for answer in answers])
    assert alone[0] != alone[1]


def test_samples_of_a_question_differ_and_a_seed_repeats_them(model: LanguageModel) -> None:
    draws = [Draw(prompts()[0], sample) for sample in range(4)]
    first = generate(model.network, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    assert first == generate(model.network, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    assert len(set(first)) > 1
    other = Sampling(SAMPLING.max_new_tokens, SAMPLING.temperature, seed=4)
    assert first != generate(model.network, draws, other, [EditPlan()] * len(draws), NO_END)


@pytest.mark.parametrize("cached", [True, False])
def test_a_prompt_with_several_samples_is_prefilled_once(reference: Network, cached: bool) -> None:
    network = copy.copy(reference)
    network.__class__ = Counting if cached else CountingUncached
    network.head_rows = []  # type: ignore[attr-defined]
    arms = [EditPlan(), EditPlan.compose([Steer(AXIS, 3.0, layers=(0,))], 3)]
    rows = [(Draw(prompt, sample), arm) for arm in arms for prompt in prompts()[:2] for sample in range(3)]
    generate(network, [draw for draw, _ in rows], SAMPLING, [arm for _, arm in rows], NO_END)
    assert network.head_rows[:2] == [4, 12]  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_answers_do_not_depend_on_the_batch_size(model: LanguageModel, batch_size: int) -> None:
    """Conversations are admitted as others end."""
    arms = [EditPlan(), EditPlan.compose([Ablate(AXIS, layers="all")], 3)]
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(3)]
    rows = [edits for edits in arms for _ in draws]
    free = generate(model.network, draws * 2, SAMPLING, rows, NO_END)
    small = replace(SAMPLING, batch_size=batch_size)
    requests = list(zip(draws * 2, rows, strict=True))
    assert_same(model.network, requests, generate(model.network, draws * 2, small, rows, NO_END), free)


def test_answers_that_end_early_are_prefixes_of_those_that_do_not(reference: Network) -> None:
    """Rows are evicted early and others take their places, but no token goes to the wrong answer."""
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(3)]
    free = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    end = Counter(token for row in free for token in row).most_common(1)[0][0]
    expected = [row[: row.index(end)] if end in row else row for row in free]
    assert len({len(row) for row in expected}) > 2
    progress: list[int] = []
    ended = generate(
        reference, draws, replace(SAMPLING, batch_size=5), [EditPlan()] * len(draws), [end], progress.append
    )
    alike = [one == other for one, other in zip(ended, expected, strict=True)]
    assert sum(alike) >= len(draws) - 2  # a draw on a border may go either way
    assert sum(progress) == len(draws)


def test_whoever_watches_sees_every_answer_grow_token_by_token(reference: Network) -> None:
    draws = [Draw(prompt, sample) for prompt in prompts() for sample in range(3)]
    free = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    end = Counter(token for row in free for token in row).most_common(1)[0][0]
    seen: dict[int, list[tuple[int, ...]]] = {index: [] for index in range(len(draws))}
    answers = generate(
        reference,
        draws,
        replace(SAMPLING, batch_size=5),
        [EditPlan()] * len(draws),
        [end],
        watch=lambda index, ids: seen[index].append(tuple(ids)),
    )
    assert any(len(answer) < SAMPLING.max_new_tokens for answer in answers)
    for index, answer in enumerate(answers):
        assert seen[index] == [answer[:n] for n in range(1, len(answer) + 1)]


@given(st.integers(1, 40), st.data())
def test_compacting_moves_no_more_rows_than_are_evicted(n: int, data: st.DataObject) -> None:
    evicted = data.draw(st.sets(st.integers(0, n - 1)))
    order = compact_rows(n, evicted)
    assert sorted(order) == sorted(set(range(n)) - evicted)
    assert sum(new != old for new, old in enumerate(order)) <= len(evicted)


def test_the_cache_changes_no_answer_under_an_intervention(reference: Network, architecture: str) -> None:
    edits = EditPlan.compose([Steer(AXIS, 0.7, layers=(0, 2))], 3)
    draws = [Draw(prompt) for prompt in prompts()]
    cached = generate(reference, draws, SAMPLING, [edits] * len(draws), NO_END)

    uncached = copy.copy(reference)
    uncached.__class__ = Uncached
    requests = [(draw, edits) for draw in draws]
    assert_same(
        reference, requests, generate(uncached, draws, SAMPLING, [edits] * len(draws), NO_END), cached
    )


class Uncached(HuggingFaceNetwork):
    """Computes all tokens anew at each step."""

    decoding = Network.decoding


class Counting(HuggingFaceNetwork):
    """Counts the rows whose logits each pass computes."""

    head_rows: list[int]

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        self.head_rows.append(len(hidden))
        return super().head(hidden)


class CountingUncached(Counting):
    """The same without a KV cache."""

    decoding = Network.decoding


def test_generation_is_steered_at_every_step(reference: Network) -> None:
    """An edit seen only by the prompt would leave later steps as they were."""
    shapes = []
    edits = EditPlan.of({Site(1): [lambda x, roles: (shapes.append(tuple(x.shape[:2])), x)[1]]})
    generate(reference, [Draw(prompts()[0])], SAMPLING, [edits], NO_END)
    assert shapes == [(1, 4)] + [(1, 1)] * (SAMPLING.max_new_tokens - 1)


def test_an_answer_ends_at_the_end_token(reference: Network) -> None:
    draws = [Draw(prompt) for prompt in prompts()]
    free = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    end = free[0][5]
    ended = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), [end])
    assert ended == [row[: row.index(end)] if end in row else row for row in free]


def test_an_answer_ends_at_whichever_end_token_comes_first(reference: Network) -> None:
    draws = [Draw(prompt) for prompt in prompts()]
    free = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), NO_END)
    late, early = free[0][6], free[0][3]
    ended = generate(reference, draws, SAMPLING, [EditPlan()] * len(draws), [late, early])
    ends = [min(row.index(end) if end in row else len(row) for end in (late, early)) for row in free]
    assert ended == [row[:end] for row, end in zip(free, ends, strict=True)]
