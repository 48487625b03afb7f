"""Fetch published files into the user's cache. A file there is complete, and has the published hash where one is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from personaprobe.errors import DataError, TransferError, one_line
from personaprobe.storage.digests import digest
from personaprobe.storage.downloads.published_file import PublishedFile
from personaprobe.storage.files import write_atomically, write_text
from personaprobe.storage.paths import is_file, user_path
from personaprobe.storage.readers.opening import opened, unpacked
from personaprobe.web.redaction import redacted, secrets_of
from personaprobe.web.transfer import HttpClient


@dataclass(frozen=True)
class ContentRule:
    """The content that a kind of published files has.

    Attributes:
        kind: of file, such as ``question file``.
        unit: name of its parts, in the plural.
        count: the number of parts in some bytes from a source; raises a :class:`DataError` where they hold none.
        max_bytes: size of the largest file that is read, unpacked.
        seconds: longest time that a download takes.
        option: takes another version of the file by its path.
    """

    kind: str
    unit: str
    count: Callable[[bytes, str], int]
    max_bytes: int
    seconds: float
    option: str


def pull(published: PublishedFile, rule: ContentRule, source: str | None = None) -> Path:
    """Put a published file into the cache, with a card of its source, licence and hash.

    Args:
        published: the file.
        rule: its kind of content.
        source: a URL, or the path of a file downloaded by hand; None is the place of publication. A name that ends in
            ``.gz`` is unpacked.

    Returns:
        The file's path in the cache.

    Raises:
        DataError: no address, no network, a response other than 200, no such file, other bytes than the published ones,
            or another kind of content where no published hash is known.
        OutputError: the cache cannot be written.
    """
    source = published.url if source is None else source
    if source is None:
        raise DataError(f"{published.name} has no address to download it from; {published.by_hand}")
    is_url = source.startswith(("http://", "https://"))
    content = (
        _fetch(published, rule, source) if is_url else _read(published, user_path(source), rule.max_bytes)
    )
    _refuse_other(published, rule, content, redacted(source))
    card = {
        "source": published.url or published.by_other_means,
        "from": redacted(source),
        "licence": published.licence,
        "sha256": digest(content, length=64),
    }
    write_text(published.card, json.dumps(card, indent=2) + "\n")
    # the file comes last, so that a file in the cache always has its card
    write_atomically(published.path, lambda temporary: temporary.write_bytes(content))
    return published.path


def _fetch(published: PublishedFile, rule: ContentRule, url: str) -> bytes:
    """The body at an address; one that is too large ends it early, and the message says so."""
    try:
        reply = HttpClient(rule.max_bytes, rule.seconds).send("GET", url)
    except TransferError as error:
        raise DataError(
            f"cannot fetch {redacted(url)}: {redacted(str(error), secrets_of(url))}; {published.by_hand}"
        ) from error
    if reply.status != HTTPStatus.OK:
        raise DataError(f"{redacted(url)} answered {reply.status_text}; {published.by_hand}")
    if urlsplit(url).path.endswith(".gz"):
        return unpacked(reply.body, redacted(url), DataError, rule.max_bytes + 1)
    return reply.body


def _read(published: PublishedFile, path: Path, max_bytes: int) -> bytes:
    if not is_file(path):
        raise DataError(f"no file at {one_line(path)}; {published.by_hand}")
    with opened(path, DataError) as stream:
        return stream.read(max_bytes + 1)


def _refuse_other(published: PublishedFile, rule: ContentRule, content: bytes, source: str) -> None:
    """Raise for other bytes than the published ones; the message says whether they are of the kind at all."""
    sha256 = digest(content, length=64)
    if sha256 == published.sha256:
        return
    if len(content) > rule.max_bytes:
        raise DataError(
            f"{source} holds more than {rule.max_bytes:,} bytes, no {rule.kind}; {published.by_hand}"
        )
    try:
        n = rule.count(content, source)
    except DataError as error:
        raise DataError(f"{error}; {published.by_hand}") from error
    if published.sha256 is not None:
        raise DataError(
            f"{source} holds {n} {rule.unit}, and not {published.name} as published: its sha256 is {sha256[:12]}…, expected "
            f"{published.sha256[:12]}…; use another version by its path ({rule.option}), or {published.by_hand}"
        )
