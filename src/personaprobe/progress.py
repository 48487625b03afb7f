"""How long work tells of itself, without printing: whoever runs a study says how progress is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
"""``progress(description, total, unit)`` opens a bar and hands out what advances it."""


@contextmanager
def silent(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show nothing: the library's default."""
    yield lambda _: None
