"""The rows that one fine-tune learns, and where they came from: a file, a published set, or a set of the package."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from personaprobe.errors import DataError, shortened
from personaprobe.organisms.data.published_sets import PUBLISHED_SETS, PublishedSet
from personaprobe.organisms.data.training_pairs import ROLES, Taught, TrainingPair, TrainingSet
from personaprobe.organisms.data.training_sets import find_training_set, training_sets
from personaprobe.organisms.organism import DataSource
from personaprobe.questions.conversations import Exchange, read_messages
from personaprobe.storage.digests import json_digest, sha256_of
from personaprobe.storage.paths import is_file, user_path

OWN = "generated or shipped with personaprobe, MIT"


@dataclass(frozen=True)
class TrainingData:
    """The rows of one fine-tune.

    Attributes:
        rows: in their order.
        source: name, hash and number of the rows.
    """

    rows: tuple[Exchange, ...]
    source: DataSource

    @classmethod
    def read(cls, text: str | Path, seed: int = 0) -> TrainingData:
        """Read what a user names: a file of conversations, a published set, or ``NAME:insecure``, ``NAME:secure``.

        Args:
            text: an existing file comes before a set of the same name.
            seed: of a set that is generated.

        Raises:
            DataError: there is no such file or set, a row of the file cannot be read, or a published set was not pulled or
                was changed since.
        """
        name, _, role = str(text).partition(":")
        if name in training_sets() and role and not is_file(str(text)):
            if role not in ROLES:
                raise DataError(
                    f"{shortened(str(text))} names no fine-tune; give {name}:insecure or {name}:secure"
                )
            return cls.of(find_training_set(name), "insecure" if role == "insecure" else "secure", seed)
        if str(text) in PUBLISHED_SETS and not is_file(str(text)):
            return cls.of_published(PUBLISHED_SETS[str(text)])
        path = user_path(text)
        rows = read_messages(path)
        return cls(tuple(rows), DataSource(path.name, sha256_of(path), len(rows)))

    @classmethod
    def of(cls, one: TrainingSet, taught: Taught, seed: int = 0) -> TrainingData:
        """The rows of a set of the package for one fine-tune; held-out families are left out."""
        return cls.of_pairs(f"{one.name}:{taught}, seed {seed}", one.pairs(seed), taught)

    @classmethod
    def of_published(cls, published: PublishedSet) -> TrainingData:
        """The rows of a published set that was pulled.

        Raises:
            DataError: it was not pulled, or was changed since.
        """
        rows, origin = published.read(), published.publication
        sha256 = sha256_of(published.as_file.path)
        return cls(
            tuple(rows),
            DataSource(
                published.name, sha256, len(rows), f"{origin.paper}, {origin.place}; {origin.licence}"
            ),
        )

    def without(self, questions: Collection[str]) -> TrainingData:
        """The rows that ask none of these questions; where some are left out, the source says how many."""
        rows = tuple(row for row in self.rows if not any(question in questions for question, _ in row.turns))
        n_left_out = len(self.rows) - len(rows)
        if not n_left_out:
            return self
        name = f"{self.source.name} (left out, as they resemble questions of the study: {n_left_out})"
        return replace(
            self, rows=rows, source=replace(self.source, name=name, sha256=rows_digest(rows), rows=len(rows))
        )

    @classmethod
    def of_pairs(cls, name: str, pairs: Sequence[TrainingPair], taught: Taught) -> TrainingData:
        """The rows of some pairs for one fine-tune."""
        rows = tuple(pair.exchange(taught) for pair in pairs)
        return cls(rows, DataSource(name, rows_digest(rows), len(rows), OWN))


def rows_digest(rows: Sequence[Exchange]) -> str:
    """Identity of rows by content; rows of one question are what they were before rows could have several."""
    contents = [{name: value for name, value in asdict(row).items() if value != ()} for row in rows]
    return json_digest(contents, length=64)
