"""Download published question files into the user's cache. A file there is complete and has the published hash."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path

from personaprobe.errors import DataError, TransferError, one_line
from personaprobe.questions.free import parse_questions
from personaprobe.questions.published import LICENCE, Published
from personaprobe.storage.digests import digest, sha256_of
from personaprobe.storage.files import cache_home, write_atomically, write_text
from personaprobe.storage.paths import is_file, user_path
from personaprobe.storage.readers.opening import opened
from personaprobe.web.redaction import redacted, secrets_of
from personaprobe.web.transfer import HttpClient

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
    source = published.url if source is None else source
    is_url = source.startswith(("http://", "https://"))
    content = _fetch(published, source) if is_url else _read(published, user_path(source))
    _refuse_other(published, content, redacted(source))
    target = cached_file(published)
    card = {"source": published.url, "from": redacted(source), "licence": LICENCE, "sha256": published.sha256}
    write_text(target.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    # the file comes last, so that a file in the cache always has its card
    write_atomically(target, lambda path: path.write_bytes(content))
    return target


def cached_file(published: Published) -> Path:
    """The path of a published file in the cache, whether or not it exists."""
    return cache_home() / "questions" / f"{published.name}.yaml"


def downloaded(published: Published) -> Path:
    """The path of a downloaded file, after checking its hash.

    Raises:
        DataError: it was not downloaded, or was changed since.
    """
    path = cached_file(published)
    if not path.is_file():
        raise DataError(
            f"{published.name} is published and not here yet; run: personaprobe questions pull {published.name}"
        )
    if sha256_of(path) != published.sha256:
        raise DataError(
            f"{path} was changed since it was pulled; run: personaprobe questions pull {published.name}"
        )
    return path


def _fetch(published: Published, url: str) -> bytes:
    """The body at an address; one that is too large ends it early, and the message says so."""
    try:
        reply = HttpClient(MAX_BYTES, TIMEOUT_SECONDS).send("GET", url)
    except TransferError as error:
        raise DataError(
            f"cannot fetch {redacted(url)}: {redacted(str(error), secrets_of(url))}; {_by_hand(published)}"
        ) from error
    if reply.status != HTTPStatus.OK:
        raise DataError(f"{redacted(url)} answered {reply.status_text}; {_by_hand(published)}")
    return reply.body


def _read(published: Published, path: Path) -> bytes:
    if not is_file(path):
        raise DataError(f"no file at {one_line(path)}; {_by_hand(published)}")
    with opened(path, DataError) as stream:
        return stream.read(MAX_BYTES + 1)


def _refuse_other(published: Published, content: bytes, source: str) -> None:
    """Raise for other bytes than the published ones; the message says whether they are questions at all."""
    sha256 = digest(content, length=64)
    if sha256 == published.sha256:
        return
    if len(content) > MAX_BYTES:
        raise DataError(
            f"{source} holds more than {MAX_BYTES:,} bytes, no question file; {_by_hand(published)}"
        )
    try:
        n = len(parse_questions(content, source))
    except DataError as error:
        raise DataError(f"{error}; {_by_hand(published)}") from error
    raise DataError(
        f"{source} holds {n} questions, and not {published.name} as published: its sha256 is {sha256[:12]}…, expected "
        f"{published.sha256[:12]}…; use another version by its path (--questions FILE.yaml), or {_by_hand(published)}"
    )


def _by_hand(published: Published) -> str:
    return (
        f"download {published.url} by hand and run: personaprobe questions pull {published.name} --from PATH"
    )
