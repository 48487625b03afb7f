"""Texts of different lengths in one row without padding: each attends to itself, and to what it goes on from.

Padding is computed like text and thrown away, and a mask has every score computed that it then hides. Here tokens of all
texts stand one after another, so that linear maps read no padding, and attention goes stretch by stretch over just the
tokens that each may see: exactly what it would see alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from personaprobe.models.attention import added_to_scores, attended, attending_by

if TYPE_CHECKING:
    from torch import Tensor

NAME = "personaprobe_varlen"
"""What transformers calls this way of attending."""

TOGETHER = 128
"""Tokens that look at what stands before the last of them; what stands behind is not computed."""


@dataclass(frozen=True)
class Stretch:
    """Tokens of a row that follow each other: they see themselves causally, and all of what they go on from.

    Attributes:
        start, end: where they stand.
        before: where what they go on from stands, in reading order.
    """

    start: int
    end: int
    before: tuple[slice, ...] = ()

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def here(self) -> slice:
        """The tokens themselves."""
        return slice(self.start, self.end)

    def seen(self, states: Tensor) -> Tensor:
        """Keys or values ``(1, head, pos, d_head)`` of everything that these tokens may look at."""
        import torch

        own = states[:, :, self.here]
        return torch.cat([*(states[:, :, part] for part in self.before), own], 2) if self.before else own


def apart(lengths: Sequence[int]) -> list[Stretch]:
    """Texts of these lengths one after another, none of which sees another."""
    return [Stretch(start, end) for start, end in pairwise(accumulate(lengths, initial=0))]


_IN_FLIGHT: ContextVar[Sequence[Stretch]] = ContextVar("stretches of the row in flight")


@contextmanager
def attending(config: Any, stretches: Sequence[Stretch]) -> Iterator[None]:
    """Let a model's blocks attend within a single row that consists of these stretches."""
    token = _IN_FLIGHT.set(stretches)
    try:
        with attending_by(config, NAME, attend):
            yield
    finally:
        _IN_FLIGHT.reset(token)


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, _: Tensor | None) -> Tensor:
    """Attention of every stretch; what each may look at says who it is, not a mask."""
    # what fills the row up sees nothing
    seen = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])
    key, later = key.float(), _later()
    for stretch in _IN_FLIGHT.get():
        keys, values = stretch.seen(key), stretch.seen(value)
        n_before = keys.shape[2] - len(stretch)
        for start in range(0, len(stretch), TOGETHER):
            end = min(start + TOGETHER, len(stretch))
            here = slice(stretch.start + start, stretch.start + end)
            known = slice(0, n_before + end)
            barred = later[: end - start, : end - start]
            found = attended(query[:, :, here], keys[:, :, known], values[:, :, known], scaling, barred)
            seen[:, here] = found.transpose(1, 2)
    return seen


@cache
def _later() -> Tensor:
    """What keeps neighbouring tokens from looking at later ones."""
    import torch

    return added_to_scores(torch.ones(TOGETHER, TOGETHER, dtype=torch.bool).triu(1), torch.float32)
