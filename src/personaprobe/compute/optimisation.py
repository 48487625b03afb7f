"""Optimisation shared by every training: the learning-rate schedule, one optimiser step, and the loop around it.

Dictionaries, organisms and judges differ in their data, losses and files. All of them train by these functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from personaprobe.compute.threads import adapt_threads
from personaprobe.errors import DataError, suggest

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

B = TypeVar("B")
S = TypeVar("S")

CHUNK_BATCHES = 8
"""Batches that are sorted by length together."""


@runtime_checkable
class Schedule(Protocol):
    """The learning rate along a training."""

    def lr_factor(self, step: int) -> float:
        """Factor on the peak learning rate at a step, counted from 0."""
        ...


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


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up, and a decay to 0 along half a cosine wave.

    Attributes:
        steps: optimiser steps of the whole training.
        warmup: steps until the peak; 0 starts at the peak.
    """

    steps: int
    warmup: int

    def lr_factor(self, step: int) -> float:
        """Factor on the peak learning rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {"linear": LinearSchedule, "cosine": CosineSchedule}
"""Schedules by name, made from the number of steps and of those until the peak."""


def find_schedule(name: str) -> Callable[[int, int], Schedule]:
    """A schedule by its name.

    Raises:
        DataError: there is none; the nearest name is suggested.
    """
    if name not in SCHEDULES:
        raise DataError(f"no schedule {name!r}: {suggest(name, SCHEDULES)}")
    return SCHEDULES[name]


class ScheduledOptimizer:
    """An optimiser whose learning rates follow a schedule.

    Attributes:
        optimizer: its learning rates at construction are the peak rates.
        schedule: the factor on them.
        steps_taken: number of steps so far; assign it to resume a training.
        learning_rate: of the first parameters at the last step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule) -> None:
        """Take no step yet."""
        self.optimizer, self.schedule = optimizer, schedule
        self.steps_taken = 0
        self._peak_rates = [group["lr"] for group in optimizer.param_groups]

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(
        self,
        losses: Float[Tensor, ""] | Iterable[Float[Tensor, ""]],
        edit_gradients: Callable[[], object] = lambda: None,
    ) -> None:
        """Take one step down the gradient of a loss.

        Args:
            losses: with an autograd graph; several are added up, one after another, so that one graph is in memory at a
                time.
            edit_gradients: called between the backward pass and the update, for clipping or projection.
        """
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        for loss in [losses] if isinstance(losses, torch.Tensor) else losses:
            loss.backward()
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
    first: int = 1,
) -> Iterator[S]:
    """Take one step per batch, and yield its result after the hooks have seen it.

    Steps are taken lazily, so that the caller can show progress or stop between them.

    Args:
        batches: in training order.
        take_step: called with the number of the step, and the batch.
        hooks: called with the number and the result: logs and checkpoints.
        first: number of the first step.
    """
    for number, batch in enumerate(batches, first):
        adapt_threads(short=True)
        result = take_step(number, batch)
        for hook in hooks:
            hook(number, result)
        yield result
