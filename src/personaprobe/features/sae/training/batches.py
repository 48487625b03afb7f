"""Batches of recorded activations, in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import torch

from personaprobe.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Block = Callable[[], "Tensor"]
"""Loads some rows ``(row, d_in)``: from a store on disk, or by running the models on a part of the corpus."""

SAMPLE_ROWS = 16_384
"""Rows from which an autoencoder is initialised."""


@dataclass(frozen=True)
class BatchLoader:
    """Blocks of activations, shuffled within each block and among blocks.

    The next block is loaded while this one is trained on. Shuffling within blocks is enough, because the corpus
    interleaves its kinds of text, so that every block is a mixture of all.

    Attributes:
        blocks: loaders of rows, at least one.
        batch_rows: rows per step; the rest of a block, smaller than a batch, is dropped.
        seed: of the order.
    """

    blocks: Sequence[Block]
    batch_rows: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.blocks:
            raise DataError("nothing to train on: give at least one recorded store or corpus file")

    def sample(self) -> Float[Tensor, "row d_in"]:
        """At most :data:`SAMPLE_ROWS` random rows of the first block, float32."""
        rows = self.blocks[0]()
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))[:SAMPLE_ROWS]
        return rows[chosen].float()

    def batches(self, epoch: int) -> Iterator[Float[Tensor, "row d_in"]]:
        """All batches of one epoch, float32; the same for the same seed and epoch.

        Raises:
            DataError: NaN or infinite activations.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.blocks), generator=generator).tolist()
        for rows in _prefetch([self.blocks[index] for index in order]):
            shuffled = torch.randperm(len(rows), generator=generator)
            for start in range(0, len(rows) - self.batch_rows + 1, self.batch_rows):
                yield _checked(rows[shuffled[start : start + self.batch_rows]].float())

    def endless(self) -> Iterator[Float[Tensor, "row d_in"]]:
        """Batches of one epoch after another.

        Raises:
            DataError: every block holds fewer rows than a batch.
        """
        for epoch in count():
            is_empty = True
            for rows in self.batches(epoch):
                is_empty = False
                yield rows
            if is_empty:
                raise DataError(
                    f"every block holds fewer rows than a batch of {self.batch_rows}; give more text"
                )


def _prefetch(blocks: Sequence[Block]) -> Iterator[Tensor]:
    """Load each block in a thread while the one before it is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(blocks[0])
        for next_block in [*blocks[1:], None]:
            rows = pending.result()
            if next_block is not None:
                pending = pool.submit(next_block)
            yield rows


def _checked(rows: Tensor) -> Tensor:
    if not bool(rows.isfinite().all()):
        raise DataError("the activations hold NaN or infinite values; record them again, in another dtype")
    return rows
