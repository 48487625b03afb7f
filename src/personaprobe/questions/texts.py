"""Plain texts: neutral prose for damage measures, and harmless requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from personaprobe.questions.question_rows import SHIPPED_SETS, complete_rows, rows_of
from personaprobe.storage.digests import json_digest

TEXTS = SHIPPED_SETS["texts"]
"""The shipped text sets."""


@dataclass(frozen=True)
class TextSet:
    """Plain texts: neutral prose for damage measures, or harmless requests."""

    name: str
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    @property
    def digest(self) -> str:
        """Identity by content."""
        return json_digest(self.texts)

    def first(self, n: int) -> TextSet:
        """At most ``n`` texts."""
        return TextSet(self.name, self.texts[:n])


def load_texts(name: str | Path) -> TextSet:
    """Load plain texts: a shipped set (see :data:`TEXTS`), or a JSON-lines file with a ``text`` field.

    Raises:
        DataError: unknown name, no such file, a row without text or with a field that is not read, or no row.
    """
    text = str(name)
    rows = list(complete_rows(rows_of(text, TEXTS), text, ("text",)))
    return TextSet(text, tuple(row["text"] for row in rows))
