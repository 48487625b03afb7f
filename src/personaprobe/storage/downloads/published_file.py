"""A file that others published, and its copy in the user's cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personaprobe.errors import DataError
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.files import cache_home
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.readers.json_files import read_json_object

PULLED = "pulled"
"""State of a file that is in the cache as it was published."""


@dataclass(frozen=True)
class PublishedFile:
    """A file that others published, identified by the hash of its bytes.

    Attributes:
        name: as users spell it.
        place: of its copy, below the cache folder.
        licence: of its content.
        sha256: of its unpacked bytes; None where it is not known.
        url: the address it is downloaded from; None where there is none.
        by_other_means: how to get it where it has no address, as an imperative.
        command: the command that pulls it, without its name.
    """

    name: str
    place: str
    licence: str
    sha256: str | None
    url: str | None
    command: str
    by_other_means: str = ""

    @property
    def path(self) -> Path:
        """The path of its copy, whether or not it exists."""
        return cache_home() / self.place

    @property
    def card(self) -> Path:
        """The path of the card beside the copy: source, licence and hash."""
        return self.path.with_suffix(".json")

    @property
    def by_hand(self) -> str:
        """How to get it without a download by this package."""
        means = f"download {self.url} by hand" if self.url else self.by_other_means
        return f"{means} and run: {self.command} {self.name} --from PATH"

    def intact(self) -> Path:
        """The path of its copy, after comparing its hash with the published one, or with the card where none is known.

        Raises:
            DataError: it was not pulled, or was changed since.
        """
        again = f"run: {self.command} {self.name}" if self.url else self.by_hand
        if not self.path.is_file():
            raise DataError(f"{self.name} is published and not here yet; {again}")
        if sha256_of(self.path) != (self.sha256 or self._sha256_when_pulled()):
            raise DataError(f"{self.path} was changed since it was pulled; {again}")
        return self.path

    def state(self) -> str:
        """One of ``pulled``, ``not pulled`` and ``changed since it was pulled``."""
        if not self.path.is_file():
            return "not pulled"
        try:
            self.intact()
        except DataError:
            return "changed since it was pulled"
        return PULLED

    def _sha256_when_pulled(self) -> str:
        """The hash in the card; empty where there is no card."""
        if not self.card.is_file():
            return ""
        content = read_json_object(self.card, advice=f"run: {self.command} {self.name}")
        return str(Fields.of(content, self.card, DataError).text("sha256"))
