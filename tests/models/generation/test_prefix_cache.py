"""A common prefix is computed once under each edit plan, and taking it from the cache changes no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.decoder import CachedDecoder
from personaprobe.models.generation.prefix_cache import PrefixCache
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.network import Network
from personaprobe.models.packing.prefix_tree import MIN_SHARED_PREFIX
from personaprobe.models.tokens import Role, Tokens
from personaprobe.site import Site

NO_END = (-1,)
LONG = 12


def prompt(*ids: int) -> Tokens:
    roles = (int(Role.PROMPT),) * (len(ids) - 1) + (int(Role.PROMPT | Role.LAST_PROMPT),)
    return Tokens(ids, roles)


def prefix(n: int, text: int = 0) -> Tokens:
    """The first ``n`` tokens of a long text; different texts differ from their first token on."""
    return Tokens(tuple(range(text, text + n)), (int(Role.PROMPT),) * n)


@dataclass
class Layer:
    keys: Tensor
    values: Tensor


class Prefill:
    """A model of two blocks that counts what it computes; keys and values hold the number of edited sites."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, prefix: Tokens, plans: Sequence[EditPlan]) -> Any:
        self.calls.append((len(prefix), len(plans)))
        n_sites = torch.tensor([float(len(plan)) for plan in plans])
        keys = n_sites[:, None, None, None].expand(-1, 1, len(prefix), 2)
        layers = [Layer(keys + 10 * block, -keys - 10 * block) for block in range(2)]
        return type("Cache", (), {"layers": layers})()


def test_a_prefix_is_computed_once_under_each_edit_plan() -> None:
    prefill, unedited, edited = Prefill(), EditPlan(), EditPlan.of({Site(0): ()})
    prefixes = PrefixCache(prefill)
    cache = prefixes.batch(prefix(9), [unedited, edited, unedited])
    assert prefill.calls == [(9, 2)]
    prefixes.evict_unused()
    again = prefixes.batch(prefix(9), [edited, edited])
    assert prefill.calls == [(9, 2)]
    for block in range(2):
        assert cache.layers[block].keys[:, 0, 0, 0].tolist() == [10.0 * block + n for n in (0, 1, 0)]
        assert again.layers[block].values[:, 0, 0, 0].tolist() == [-10.0 * block - 1] * 2
    assert cache.get_seq_length() == 9


def test_a_prefix_that_prompts_no_longer_have_is_evicted() -> None:
    prefill = Prefill()
    prefixes = PrefixCache(prefill)
    edits: list[EditPlan] = [EditPlan()]
    for start in (0, 50, 0):
        prefixes.evict_unused()
        prefixes.batch(prefix(9, start), edits)
    assert len(prefill.calls) == 3


def test_an_empty_common_prefix_computes_nothing() -> None:
    prefill = Prefill()
    assert PrefixCache(prefill).batch(prefix(0), [EditPlan()]).get_seq_length() == 0
    assert not prefill.calls


@pytest.mark.parametrize(
    ("cached", "common", "n_prompts", "expected"),
    [
        (0, LONG, 2, LONG),
        (0, LONG, 1, 0),  # a single prompt is computed with its prefix
        (0, MIN_SHARED_PREFIX - 1, 9, 0),
        (LONG, LONG, 1, LONG),
        (LONG, LONG + MIN_SHARED_PREFIX - 1, 2, LONG),  # hardly more than is cached
        (LONG, LONG + MIN_SHARED_PREFIX, 2, LONG + MIN_SHARED_PREFIX),
        (LONG, LONG + MIN_SHARED_PREFIX, 1, LONG),
        (LONG, LONG - 1, 2, LONG - 1),  # the cached prefix continues differently
    ],
)
def test_a_prefix_is_reused_or_computed_where_that_saves_work(
    cached: int, common: int, n_prompts: int, expected: int
) -> None:
    prefixes = PrefixCache(Prefill())
    if cached:
        prefixes.batch(prefix(cached), [EditPlan()])
        prefixes.evict_unused()
    assert prefixes.reusable_prefix(prefix(common), n_prompts) == prefix(expected)


def test_answers_from_a_cached_prefix_are_those_of_prompts_computed_alone(
    reference: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    original = CachedDecoder._prefill_prefix

    def counted(decoder: CachedDecoder, prefix: Tokens, plans: Sequence[EditPlan]) -> Any:
        computed.append(len(prefix))
        return original(decoder, prefix, plans)

    monkeypatch.setattr(CachedDecoder, "_prefill_prefix", counted)
    axis = Direction(Site(1), torch.linspace(-1, 1, 32), "test", {k: Calibration(0.1, 2.0) for k in range(3)})
    arms: list[EditPlan] = [EditPlan(), EditPlan.compose([Ablate(axis, layers="all")], 3)]
    draws = [Draw(prompt(*range(LONG), 40 + number, 60 + number)) for number in range(8)]
    rows = [(draw, arm) for draw in draws for arm in arms]
    sampling = Sampling(max_new_tokens=5, temperature=0.0, batch_size=4)
    together = generate(reference, [draw for draw, _ in rows], sampling, [arm for _, arm in rows], NO_END)
    assert computed == [LONG]
    alone = [generate(reference, [draw], sampling, [arm], NO_END)[0] for draw, arm in rows]
    assert computed == [LONG]
    assert together == alone
