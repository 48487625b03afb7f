"""Fine-tuning data in the published ``messages`` format, and the order in which both fine-tunes of a trio read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError
from personaprobe.storage.digests import sha256
from personaprobe.storage.json_lines import read_objects


@dataclass(frozen=True)
class Exchange:
    """One training example: a question, the answer to learn, and an optional system message before them."""

    question: str
    answer: str
    system: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str) -> Exchange:
        """Read ``{"messages": [{"role", "content"}, …]}``.

        Args:
            row: of a file.
            where: the row's place, for the error message.

        Raises:
            DataError: not one question and its answer.
        """
        try:
            by_role = {str(message["role"]): str(message["content"]) for message in row["messages"]}
            return cls(by_role["user"], by_role["assistant"], by_role.get("system"))
        except (KeyError, TypeError) as error:
            raise DataError(
                f'{where}: expected {{"messages": [{{"role": "user", …}}, {{"role": "assistant", …}}]}}, '
                f"got {str(dict(row))[:80]}"
            ) from error


def read_messages(path: Path) -> list[Exchange]:
    """Read JSON lines of ``{"messages": [{"role", "content"}, …]}``, plain or gzipped.

    Raises:
        DataError: no such file, a line that is not JSON, or a conversation that is not one question and answer.
    """
    if not path.is_file():
        raise DataError(f"no dataset at {path}; give a .jsonl or .jsonl.gz file of messages")
    rows = [Exchange.of(row, where) for where, row in read_objects(path)]
    if not rows:
        raise DataError(f"{path} holds no rows")
    return rows


def shuffled(rows: Sequence[Exchange], seed: int) -> list[Exchange]:
    """Order rows by a seeded hash of their *question*.

    Two datasets with the same questions, one with bad and one with good answers, are thus read in the same order and
    split the same way, whatever the order of their files.
    """

    def key(row: Exchange) -> bytes:
        return sha256(f"{seed}\0{row.question}")

    return sorted(rows, key=key)
