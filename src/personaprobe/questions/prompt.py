"""A prompt: one question as a model receives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable


@dataclass(frozen=True)
class Prompt:
    """One question as a model receives it.

    Attributes:
        id: unique among the prompts that are answered together.
        family: the subject; intervals resample families, because answers cluster by subject.
        question: the user's message.
        system: message put before it, or None.
        form: how the question is put, such as ``plain`` or ``json``.
    """

    id: str
    family: str
    question: str
    system: str | None = None
    form: str = "plain"


@runtime_checkable
class HasFamily(Protocol):
    """Anything that belongs to a family of questions."""

    @property
    def family(self) -> str:
        """The subject."""
        ...


OfFamily = TypeVar("OfFamily", bound=HasFamily)


def interleaved(items: Sequence[OfFamily]) -> list[OfFamily]:
    """Order items round-robin over their families, so that every prefix holds each family about equally often."""
    by_family: dict[str, list[OfFamily]] = {}
    for item in items:
        by_family.setdefault(item.family, []).append(item)
    rounds = max(map(len, by_family.values()), default=0)
    return [group[i] for i in range(rounds) for group in by_family.values() if i < len(group)]
