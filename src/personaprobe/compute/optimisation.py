"""Optimisation shared by every training: the learning-rate schedule, one optimiser step, and the loop around it.

Dictionaries, organisms and judges differ in their data, losses and files. All of them train by these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

B = TypeVar("B")
S = TypeVar("S")

CHUNK_BATCHES = 8
"""Batches that are sorted by length together."""


@dataclass(frozen=True)
class LinearSchedule:
    """Linear warm-up, a plateau, and linear decay to 0.

    Attributes:
        steps: optimiser steps of the whole training.
        warmup: steps until the peak; 0 starts at the peak.
        decay_steps: length of the decay, which ends with the training; None decays from the end of the warm-up.
    """

    steps: int
    warmup: int
    decay_steps: float | None = None

    def lr_factor(self, step: int) -> float:
        """Factor on the peak learning rate at a step, counted from 0."""
        decay_steps = self.steps - self.warmup if self.decay_steps is None else self.decay_steps
        rising = (step + 1) / max(1, self.warmup)
        falling = (self.steps - step) / max(1.0, decay_steps)
        return min(1.0, rising, falling)


class ScheduledOptimizer:
    """An optimiser whose learning rates follow a schedule.

    Attributes:
        optimizer: its learning rates at construction are the peak rates.
        schedule: the factor on them.
        steps_taken: number of steps so far; assign it to resume a training.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: LinearSchedule) -> None:
        """Take no step yet."""
        self.optimizer, self.schedule = optimizer, schedule
        self.steps_taken = 0
        self._peak_rates = [group["lr"] for group in optimizer.param_groups]

    def step(self, loss: Float[Tensor, ""], edit_gradients: Callable[[], object] = lambda: None) -> None:
        """Take one step down the gradient of a loss.

        Args:
            loss: with an autograd graph.
            edit_gradients: called between the backward pass and the update, for clipping or projection.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        edit_gradients()
        factor = self.schedule.lr_factor(self.steps_taken)
        for group, peak_rate in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak_rate * factor
        self.optimizer.step()
        self.steps_taken += 1


def similar_length_batches(
    rows: Sequence[B],
    batch_size: int,
    length: Callable[[B], int],
    shuffle: Callable[[list[list[B]], int], Iterable[list[B]]],
) -> Iterator[list[B]]:
    """Batches of rows of similar length, which need little padding.

    Eight batches are sorted by length together and shuffled afterwards, so that the order of training stays random.

    Args:
        rows: in a random order.
        batch_size: rows per batch.
        length: of a row, such as its number of characters.
        shuffle: reorders the batches of a chunk, given the index of its first row.
    """
    for start in range(0, len(rows), CHUNK_BATCHES * batch_size):
        chunk = sorted(rows[start : start + CHUNK_BATCHES * batch_size], key=length)
        batches = [chunk[first : first + batch_size] for first in range(0, len(chunk), batch_size)]
        yield from shuffle(batches, start)


def run_steps(
    batches: Iterable[B],
    take_step: Callable[[int, B], S],
    hooks: Sequence[Callable[[int, S], object]] = (),
) -> Iterator[S]:
    """Take one step per batch, and yield its result after the hooks have seen it.

    Steps are taken lazily, so that the caller can show progress or stop between them.

    Args:
        batches: in training order.
        take_step: called with the number of the step, from 1, and the batch.
        hooks: called with the number and the result: logs and checkpoints.
    """
    for number, batch in enumerate(batches, 1):
        result = take_step(number, batch)
        for hook in hooks:
            hook(number, result)
        yield result
