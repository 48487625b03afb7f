"""Two processes train the adapter of one: every row of a batch is read by one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from personaprobe.models.tokens import Tokens, pad
from personaprobe.organisms.training.processes import Processes

if TYPE_CHECKING:
    pass

BATCH = pad([Tokens.prompt([1, 2]).followed_by([3] * n) for n in (1, 2, 3, 4, 5)], 0)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_row_is_read_by_one_process(count: int) -> None:
    shares = [Processes(rank, count).share(BATCH) for rank in range(count)]
    rows = [tuple(row.tolist()) for share in shares if share is not None for row in share.ids]
    assert sorted(rows) == sorted(tuple(row.tolist()) for row in BATCH.ids)
    assert sum(share is None for share in shares) == max(0, count - len(BATCH.ids))


def test_one_process_adds_and_waits_for_nothing() -> None:
    alone = Processes()
    alone.wait()
    assert alone.add(1.5, torch.zeros(1)) == 1.5
    assert alone.is_first
    assert alone.device("cpu") == "cpu"
