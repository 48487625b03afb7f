"""Several processes that train one adapter together: each reads a part of every batch, and gradients are added up.

``torchrun --nproc-per-node 2 -m personaprobe organisms train …`` and ``accelerate launch`` start them; accelerate chooses
how they talk (NCCL between GPUs, gloo between CPUs). The first process alone writes files and prints.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from personaprobe.models.tokens import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """The processes of a training, and which of them this is.

    Attributes:
        rank: of this one, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def device(self, chosen: str | None) -> str | None:
        """The device of this process: a GPU of its own where there are GPUs and the user chose none."""
        import torch

        if chosen is not None or self.count == 1 or not torch.cuda.is_available():
            return chosen
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % torch.cuda.device_count()}"

    def share(self, batch: Batch) -> Batch | None:
        """The rows of a batch that this process reads; None where others read all."""
        if self.count == 1:
            return batch
        rows = slice(self.rank, None, self.count)
        return Batch(batch.ids[rows], batch.roles[rows]) if len(batch.ids) > self.rank else None

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients of every process by their sum."""
        if self.count == 1:
            return
        import torch
        from torch.distributed import all_reduce

        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
        all_reduce(flat)
        parts = torch.split(flat, [parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def add(self, value: float, like: Tensor) -> float:
        """The sum of a number over all processes.

        Args:
            value: of this one.
            like: a tensor on the device over which they talk.
        """
        if self.count == 1:
            return value
        from torch.distributed import all_reduce

        total = like.new_tensor([value])
        all_reduce(total)
        return float(total)

    def wait(self) -> None:
        """Wait until every process has come this far."""
        if self.count > 1:
            from torch.distributed import barrier

            barrier()


@cache
def processes() -> Processes:
    """The processes that this one was started with, connected at the first call; one where it was started alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Processes(state.process_index, state.num_processes)
