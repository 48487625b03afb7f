"""Batches that do not fit into memory are split, with the same results and a warning."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from personaprobe.compute.out_of_memory import split_on_oom
from personaprobe.errors import DeviceError
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.decoder import CachedDecoder
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel, score_under_edits
from personaprobe.models.network import Fork, Network
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import Tokens

NO_END = (-1,)


def full(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("out of memory")


def at_most(n: int, run: Any) -> Any:
    """The same function, on a machine where at most ``n`` items fit into memory."""

    def cramped(self: Any, items: Any, *rest: Any) -> Any:
        return full() if len(items) > n else run(self, items, *rest)

    return cramped


@pytest.fixture
def model(tiny_language_model: Any) -> LanguageModel:
    """One architecture is enough: splitting does not depend on it."""
    language_model: LanguageModel = tiny_language_model("llama")
    return language_model


@pytest.fixture
def reference(model: LanguageModel) -> Network:
    return model.network


@pytest.fixture
def forks(model: LanguageModel) -> list[Fork]:
    rows = probe_tokens(128)
    return [Fork(Tokens(row.ids[:n], row.roles[:n]), ((5, 6), (7,))) for row in rows for n in (3, 4)]


@pytest.mark.parametrize("n", [1, 2])
def test_questions_scored_in_halves_get_the_same_scores(
    model: LanguageModel, forks: list[Fork], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(model.network)
    expected = score_under_edits([model, model], forks)
    monkeypatch.setattr(kind, "fork_log_probs", at_most(n, kind.fork_log_probs))
    with pytest.warns(UserWarning, match="read in halves"):
        result = score_under_edits([model, model], forks)
    for groups, expected_result in zip(result, expected, strict=True):
        for group, others in zip(groups, expected_result, strict=True):
            for one, other in zip(group, others, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_finished_answers_are_kept_when_the_batch_shrinks(
    reference: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = [Draw(Tokens(row.ids[:4], row.roles[:4]), s) for row in probe_tokens(128) for s in range(3)]
    sampling = Sampling(max_new_tokens=9, temperature=0.0, batch_size=4)
    expected = generate(reference, draws, sampling, [EditPlan()] * len(draws), NO_END)
    capacity, ended, steps = [4], [], [0]
    admit, step = CachedDecoder.admit, CachedDecoder.step

    def admitting(self: CachedDecoder, prompts: Any, edits: Any, rows: Any, max_new_tokens: int) -> Any:
        return full() if len(rows) > capacity[0] else admit(self, prompts, edits, rows, max_new_tokens)

    def stepping(self: CachedDecoder, ids: Any) -> Any:
        steps[0] += 1
        if steps[0] == 12:  # the first four have ended
            capacity[0] = 1
            full()
        return step(self, ids)

    monkeypatch.setattr(CachedDecoder, "admit", admitting)
    monkeypatch.setattr(CachedDecoder, "step", stepping)
    with pytest.warns(UserWarning, match="1 side by side"):
        result = generate(reference, draws, sampling, [EditPlan()] * len(draws), NO_END, ended.append)
    assert result == expected
    assert sum(ended) == len(draws)


@contextmanager
def nothing_fits(*_: Any) -> Any:
    full()
    yield


def test_an_error_says_what_to_do_where_a_single_item_does_not_fit(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = [Draw(Tokens(row.ids[:4], row.roles[:4])) for row in probe_tokens(128)]
    monkeypatch.setattr(type(model.network), "decoding", nothing_fits)
    with pytest.warns(UserWarning, match="did not fit"), pytest.raises(DeviceError, match="another device"):
        generate(model.network, draws, Sampling(batch_size=4), [EditPlan()] * len(draws), NO_END)
    with pytest.warns(UserWarning, match="did not fit"), pytest.raises(DeviceError, match="another device"):
        split_on_oom(full, [1, 2, 3], "things")
