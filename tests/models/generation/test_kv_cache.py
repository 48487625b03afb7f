"""The KV cache keeps every row's keys and values while rows come, move and go, and while its memory grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from personaprobe.models.generation.kv_cache import CAPACITY_STEP, KVCache, round_up


@dataclass
class Layer:
    keys: Tensor
    values: Tensor


def prefilled(*rows: float, length: int) -> Any:
    """A transformers cache of one block, whose keys hold the number of their row."""
    keys = torch.tensor(rows)[:, None, None, None].expand(-1, 1, length, 2).clone()
    return type("Cache", (), {"layers": [Layer(keys, -keys)]})()


def keys(cache: KVCache) -> Tensor:
    """Keys of all rows after one more token, whose keys are 9."""
    n_rows = len(cache.lengths)
    new = torch.full((n_rows, 1, 1, 2), 9.0)
    cached, _ = cache.view().update(new, -new, 0)
    return cached[:, 0, :, 0]


def filled() -> KVCache:
    cache = KVCache(torch.device("cpu"), torch.float32)
    cache.admit([2, 3, 3], 5)
    cache.fill(prefilled(1.0, length=2), [0], [0])
    cache.fill(prefilled(2.0, length=3), [1, 2], [0, 0])
    return cache


def test_each_row_writes_at_its_own_position() -> None:
    assert keys(filled()).tolist() == [[1, 1, 9, 0], [2, 2, 2, 9], [2, 2, 2, 9]]


def test_rows_that_stay_keep_their_values() -> None:
    cache = filled()
    cache.keep([2, 0])
    assert cache.lengths == [3, 2]
    assert keys(cache).tolist() == [[2, 2, 2, 9], [1, 1, 9, 0]]


def test_values_survive_growth_and_the_generation_counts_it() -> None:
    cache = filled()
    assert (cache.generation, cache.capacity) == (1, (3, CAPACITY_STEP))
    cache.admit([CAPACITY_STEP], 1)
    cache.fill(prefilled(4.0, length=CAPACITY_STEP), [3], [0])
    assert (cache.generation, cache.capacity) == (2, (4, 2 * CAPACITY_STEP))
    assert keys(cache)[:, :4].tolist() == [[1, 1, 9, 0], [2, 2, 2, 9], [2, 2, 2, 9], [4, 4, 4, 4]]


def test_later_positions_and_those_before_the_window_are_blocked() -> None:
    cache = filled()
    assert cache.view().blocked()[:2, 0, 0].tolist() == [[False] * 3 + [True], [False] * 4]
    assert cache.view().blocked(2)[1, 0, 0].tolist() == [True, True, False, False]


def test_rounding_up_gives_the_next_multiple() -> None:
    assert [round_up(number, 32) for number in (0, 1, 32, 33)] == [0, 32, 32, 64]
