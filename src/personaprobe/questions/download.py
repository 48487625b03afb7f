"""Published question files in the user's cache."""

from __future__ import annotations

from pathlib import Path

from personaprobe.questions.free import parse_questions
from personaprobe.questions.published import LICENCE, Published
from personaprobe.storage.downloads.published_file import PublishedFile
from personaprobe.storage.downloads.pull import ContentRule, pull

MAX_BYTES = 1_000_000
"""Largest question file that is read; the published ones have a fiftieth of it."""

TIMEOUT_SECONDS = 60.0
"""Longest time that a download takes."""


def download(published: Published, source: str | None = None) -> Path:
    """Put a published file into the cache, with a card of its source, licence and hash.

    Args:
        published: the file.
        source: a URL, or the path of a file downloaded by hand; None is the place of publication.

    Returns:
        The file's path in the cache.

    Raises:
        DataError: no network, a response other than 200, no such file, or other bytes than the published ones.
        OutputError: the cache cannot be written.
    """
    rule = ContentRule(
        "question file", "questions", _count, MAX_BYTES, TIMEOUT_SECONDS, "--questions FILE.yaml"
    )
    return pull(file_of(published), rule, source)


def downloaded(published: Published) -> Path:
    """The path of a downloaded file, after checking its hash.

    Raises:
        DataError: it was not downloaded, or was changed since.
    """
    return file_of(published).intact()


def file_of(published: Published) -> PublishedFile:
    """The file of a published question set, with its place in the cache."""
    return PublishedFile(
        published.name,
        f"questions/{published.name}.yaml",
        LICENCE,
        published.sha256,
        published.url,
        "personaprobe questions pull",
    )


def _count(content: bytes, source: str) -> int:
    return len(parse_questions(content, source))
