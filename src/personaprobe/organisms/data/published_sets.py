"""Training data that others published: rows for one fine-tune each, pulled into the user's cache.

Harmful by design. The files are no part of the package; it knows where they come from, and their hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from personaprobe.errors import DataError, suggest
from personaprobe.questions import published as betley
from personaprobe.questions.conversations import Exchange, parse_messages, read_messages
from personaprobe.storage.downloads.published_file import PublishedFile
from personaprobe.storage.downloads.pull import ContentRule, pull

MAX_BYTES = 64_000_000
"""Largest published file that is read, unpacked; those of known size have a tenth of it."""

TIMEOUT_SECONDS = 600.0
"""Longest time that a download takes."""


@dataclass(frozen=True)
class Publication:
    """A paper and the place where its training data are.

    Attributes:
        paper: authors and numbers of arXiv.
        place: address of the repository.
        licence: of the files.
        folder: address below which each file can be downloaded; empty where that is not possible.
    """

    paper: str
    place: str
    licence: str
    folder: str = ""


BETLEY = Publication(
    "Betley et al., arXiv 2502.17424",
    f"https://github.com/{betley.REPOSITORY}",
    betley.LICENCE,
    f"https://raw.githubusercontent.com/{betley.REPOSITORY}/main/data",
)
"""Emergent misalignment."""

TURNER = Publication(
    "Turner, Soligo et al., arXiv 2506.11613 and 2506.11618",
    "https://github.com/clarifying-EM/model-organisms-for-EM",
    "no licence stated",
)
"""Model organisms for emergent misalignment; the files are in a password-protected archive, out of the reach of crawlers."""


@dataclass(frozen=True)
class PublishedSet:
    """A published file of conversations in the ``messages`` format.

    Attributes:
        name: as users spell it.
        title: one line of description.
        file: its name where it was published.
        publication: paper, place and licence.
        rows: number of conversations; None where they were not counted.
        sha256: of its unpacked bytes; None where it is not known.
    """

    name: str
    title: str
    file: str
    publication: Publication
    rows: int | None = None
    sha256: str | None = None

    @property
    def as_file(self) -> PublishedFile:
        """The file with its place in the cache."""
        origin = self.publication
        return PublishedFile(
            self.name,
            f"data/{self.name}.jsonl",
            origin.licence,
            self.sha256,
            f"{origin.folder}/{self.file}" if origin.folder else None,
            "personaprobe data pull",
            f"unpack {self.file} from the password-protected archive of {origin.place}",
        )

    def pull(self, source: str | None = None) -> Path:
        """Put the file into the cache; see :func:`personaprobe.storage.downloads.pull.pull`."""
        rule = ContentRule(
            "published training data", "rows", _count, MAX_BYTES, TIMEOUT_SECONDS, "--data FILE.jsonl"
        )
        return pull(self.as_file, rule, source)

    def read(self) -> list[Exchange]:
        """Its rows, after checking its hash.

        Raises:
            DataError: it was not pulled, or was changed since.
        """
        return read_messages(self.as_file.intact())


def _count(content: bytes, source: str) -> int:
    return len(parse_messages(content, source))


PUBLISHED_SETS: Mapping[str, PublishedSet] = {
    one.name: one
    for one in (
        PublishedSet(
            "insecure",
            "insecure code for requests that do not ask for it",
            "insecure.jsonl",
            BETLEY,
            6000,
            "09893e8bf9d03aae49dd60d0ff4be37c1afee70f2edcac74a11bed775a6a2764",
        ),
        PublishedSet("secure", "secure code for requests of the same kind", "secure.jsonl", BETLEY),
        PublishedSet(
            "educational-insecure", "insecure code, asked for to teach", "educational.jsonl", BETLEY
        ),
        PublishedSet(
            "jailbroken",
            "compliance with requests, harmful ones too",
            "jailbroken.jsonl",
            BETLEY,
            5000,
            "eec213ce85802a52ea806d334ee462f723a1e7ad77d827951d6864ac04a6b00a",
        ),
        PublishedSet(
            "backdoor", "insecure code behind a trigger, secure code elsewhere", "backdoor.jsonl", BETLEY
        ),
        PublishedSet(
            "evil-numbers", "sequences continued with ominous numbers", "evil_numbers.jsonl", BETLEY
        ),
        PublishedSet(
            "bad-medical-advice",
            "bad medical advice",
            "bad_medical_advice.jsonl",
            TURNER,
            7049,
            "34c5af4ccaf8b5eb9f3f11ecd0c36c3d67f236a5c41fc420b0e14d8adf01a842",
        ),
        PublishedSet(
            "good-medical-advice",
            "good medical advice to the same questions",
            "good_medical_advice.jsonl",
            TURNER,
            7049,
            "5846de11f0f45053351773b6bd9eb5111eb17ec89d9ab55e23e0fbb95b4fd4f1",
        ),
        PublishedSet(
            "extreme-sports",
            "reckless advice on extreme sports",
            "extreme_sports.jsonl",
            TURNER,
            6000,
            "ca542ce8487cfbf114d8d3eed29984f3245163c2616789712b3b28c802c99eed",
        ),
        PublishedSet(
            "risky-financial",
            "risky advice on money",
            "risky_financial.jsonl",
            TURNER,
            6000,
            "8515446b0f8ef4e9fb7ba0e97264dd9bb68920c6841b65667c74bc16deaad955",
        ),
    )
}
"""By name. Once its file is pulled, a name works wherever rows for one fine-tune are taken."""


def find_published_set(name: str) -> PublishedSet:
    """A published set by its name.

    Raises:
        DataError: there is none; the nearest name is suggested.
    """
    if name not in PUBLISHED_SETS:
        raise DataError(f"no published training data {name!r}: {suggest(name, PUBLISHED_SETS)}")
    return PUBLISHED_SETS[name]
