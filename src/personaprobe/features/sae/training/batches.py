"""What dictionaries are trained on, batch after batch: recorded activations in an order a seed decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from personaprobe.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Block = Callable[[], "Tensor"]
"""Makes some rows ``(row, d_in)``: reads them from a store, or has the models read a part of the corpus."""


@dataclass(frozen=True)
class Feed:
    """Blocks of activations, shuffled within themselves and among each other.

    The next block is made while this one is trained on. A block is a mixture of everything to begin with, since the
    corpus deals its kinds evenly, so that shuffling within it is enough.

    Attributes:
        blocks: makers of rows, at least one.
        batch_rows: rows a step; what a block leaves over is not read.
        seed: of the order.
    """

    blocks: Sequence[Block]
    batch_rows: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.blocks:
            raise DataError("nothing to train on: give at least one recorded store or corpus file")

    def sample(self) -> Float[Tensor, "row d_in"]:
        """Some rows to start from, float32."""
        rows = self.blocks[0]()
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))[:16384]
        return rows[chosen].float()

    def batches(self, epoch: int) -> Iterator[Float[Tensor, "row d_in"]]:
        """All batches of one pass, float32, the same for the same seed and epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.blocks), generator=generator).tolist()
        for rows in _ahead([self.blocks[index] for index in order]):
            shuffled = torch.randperm(len(rows), generator=generator)
            for start in range(0, len(rows) - self.batch_rows + 1, self.batch_rows):
                yield _checked(rows[shuffled[start : start + self.batch_rows]].float())


def _ahead(blocks: Sequence[Block]) -> Iterator[Tensor]:
    """Make each block while the one before it is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(blocks[0])
        for following in [*blocks[1:], None]:
            rows = coming.result()
            if following is not None:
                coming = pool.submit(following)
            yield rows


def _checked(rows: Tensor) -> Tensor:
    if not bool(rows.isfinite().all()):
        raise DataError("the activations hold NaN or infinite values; record them again, in another dtype")
    return rows
