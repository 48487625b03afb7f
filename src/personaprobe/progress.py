"""Progress of long work, without printing: the caller of a study decides how progress is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Advance(Protocol):
    """Counts finished units of work, such as tokens or questions."""

    def __call__(self, n: int, /) -> object:
        """Report ``n`` more finished units."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Shows the progress of one piece of work while a ``with`` block runs."""

    def __call__(self, description: str, total: int, unit: str, /) -> AbstractContextManager[Advance]:
        """Start to show progress.

        Args:
            description: the work, in a word or two.
            total: number of units; 0 where it is unknown.
            unit: name of a unit, in the plural.

        Returns:
            A context whose value counts finished units.
        """
        ...


def no_advance(n: int, /) -> None:
    """Count nothing: the default of functions that report finished units."""


@contextmanager
def silent(description: str, total: int, unit: str, /) -> Iterator[Advance]:
    """Show nothing: the default of the library."""
    yield no_advance
