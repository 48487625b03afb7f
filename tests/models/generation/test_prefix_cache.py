"""What prompts begin with is read once under each edit, and what is remembered changes no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.features.directions.direction import Direction, Mark
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.decoder import CachedDecoder
from personaprobe.models.generation.prefix_cache import PrefixCache
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.network import Network
from personaprobe.models.packing.prefix_tree import MIN_SHARED_PREFIX
from personaprobe.models.tokens import Role, Tokens
from personaprobe.site import Site

NO_END = -1
LONG = 12


def prompt(*ids: int) -> Tokens:
    roles = (int(Role.PROMPT),) * (len(ids) - 1) + (int(Role.PROMPT | Role.LAST_PROMPT),)
    return Tokens(ids, roles)


def beginning(n: int, of: int = 0) -> Tokens:
    """The first so many tokens of a long text; texts differ from their first token on."""
    return Tokens(tuple(range(of, of + n)), (int(Role.PROMPT),) * n)


@dataclass
class Layer:
    keys: Tensor
    values: Tensor


class Reader:
    """A model of two blocks that notes what it reads; keys and values tell under which edits."""

    def __init__(self) -> None:
        self.read: list[tuple[int, int]] = []

    def __call__(self, prefix: Tokens, kinds: Sequence[EditPlan]) -> Any:
        self.read.append((len(prefix), len(kinds)))
        marks = torch.tensor([float(len(own)) for own in kinds])
        keys = marks[:, None, None, None].expand(-1, 1, len(prefix), 2)
        layers = [Layer(keys + 10 * block, -keys - 10 * block) for block in range(2)]
        return type("Cache", (), {"layers": layers})()


def test_a_beginning_is_read_once_under_each_edit() -> None:
    reader, none, some = Reader(), EditPlan(), EditPlan.of({Site(0): ()})
    prefixes = PrefixCache(reader)
    cache = prefixes.batch(beginning(9), [none, some, none])
    assert reader.read == [(9, 2)]
    prefixes.evict_unused()
    again = prefixes.batch(beginning(9), [some, some])
    assert reader.read == [(9, 2)]
    for block in range(2):
        assert cache.layers[block].keys[:, 0, 0, 0].tolist() == [10.0 * block + mark for mark in (0, 1, 0)]
        assert again.layers[block].values[:, 0, 0, 0].tolist() == [-10.0 * block - 1] * 2
    assert cache.get_seq_length() == 9


def test_what_prompts_no_longer_begin_with_is_forgotten() -> None:
    reader = Reader()
    prefixes = PrefixCache(reader)
    edits: list[EditPlan] = [EditPlan()]
    for start in (0, 50, 0):
        prefixes.evict_unused()
        prefixes.batch(beginning(9, start), edits)
    assert len(reader.read) == 3


def test_nothing_in_common_is_nothing_read() -> None:
    reader = Reader()
    assert PrefixCache(reader).batch(beginning(0), [EditPlan()]).get_seq_length() == 0
    assert not reader.read


@pytest.mark.parametrize(
    ("known", "common", "n_prompts", "expected"),
    [
        (0, LONG, 2, LONG),
        (0, LONG, 1, 0),  # a single prompt is read with its beginning
        (0, MIN_SHARED_PREFIX - 1, 9, 0),
        (LONG, LONG, 1, LONG),
        (LONG, LONG + MIN_SHARED_PREFIX - 1, 2, LONG),  # hardly more than what is known
        (LONG, LONG + MIN_SHARED_PREFIX, 2, LONG + MIN_SHARED_PREFIX),
        (LONG, LONG + MIN_SHARED_PREFIX, 1, LONG),
        (LONG, LONG - 1, 2, LONG - 1),  # what is known goes on otherwise
    ],
)
def test_as_much_is_read_on_its_own_as_is_worth_it(
    known: int, common: int, n_prompts: int, expected: int
) -> None:
    prefixes = PrefixCache(Reader())
    if known:
        prefixes.batch(beginning(known), [EditPlan()])
        prefixes.evict_unused()
    assert prefixes.reusable_prefix(beginning(common), n_prompts) == beginning(expected)


def test_answers_are_those_of_prompts_read_alone_though_later_ones_go_on_from_what_was_read(
    reference: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    usual = CachedDecoder._prefill_prefix

    def noted(decoder: CachedDecoder, prefix: Tokens, kinds: Sequence[EditPlan]) -> Any:
        read.append(len(prefix))
        return usual(decoder, prefix, kinds)

    monkeypatch.setattr(CachedDecoder, "_prefill_prefix", noted)
    axis = Direction(Site(1), torch.linspace(-1, 1, 32), "test", {k: Mark(0.1, 2.0) for k in range(3)})
    arms: list[EditPlan] = [EditPlan(), EditPlan.compose([Ablate(axis, "all")], 3)]
    draws = [Draw(prompt(*range(LONG), 40 + number, 60 + number)) for number in range(8)]
    rows = [(draw, arm) for draw in draws for arm in arms]
    sampling = Sampling(max_new_tokens=5, temperature=0.0, batch_size=4)
    together = generate(reference, [draw for draw, _ in rows], sampling, [arm for _, arm in rows], NO_END)
    assert read == [LONG]
    alone = [generate(reference, [draw], sampling, [arm], NO_END)[0] for draw, arm in rows]
    assert read == [LONG]
    assert together == alone
