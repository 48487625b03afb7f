"""Published question files in the user's cache: fetched once, known by their hash, whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

from personaprobe.errors import DataError
from personaprobe.questions.free import parse_questions
from personaprobe.questions.published import LICENCE, Published
from personaprobe.storage.digests import digest, sha256_of
from personaprobe.storage.files import cache_home, write_atomically, write_text

LARGEST = 1_000_000
"""Bytes of a question file; the published ones hold a fiftieth of it."""

PATIENCE = 30.0
"""Seconds that a server may say nothing."""


def pull(published: Published, source: str | None = None) -> Path:
    """Put a published file into the cache, with a card that tells its source, licence and hash.

    Args:
        published: which.
        source: a URL, or a file that was downloaded by hand; None is where it was published.

    Raises:
        DataError: no network, an answer other than 200, no such file, or other bytes than the published ones.
        OutputError: the cache cannot be written.
    """
    source = published.url if source is None else source
    is_url = source.startswith(("http://", "https://"))
    content = _fetched(published, source) if is_url else _read(published, Path(source).expanduser())
    _refuse_other(published, content, source)
    target = place(published)
    card = {"source": published.url, "from": source, "licence": LICENCE, "sha256": published.sha256}
    write_text(target.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    # last: where the file is, its card is too
    write_atomically(target, lambda path: path.write_bytes(content))
    return target


def place(published: Published) -> Path:
    """Where a pulled file lies, whether or not it does."""
    return cache_home() / "questions" / f"{published.name}.yaml"


def pulled(published: Published) -> Path:
    """The pulled file, its bytes looked at.

    Raises:
        DataError: it was not pulled, or was changed since.
    """
    path = place(published)
    if not path.is_file():
        raise DataError(
            f"{published.name} is published and not here yet; run: personaprobe questions pull {published.name}"
        )
    if sha256_of(path) != published.sha256:
        raise DataError(
            f"{path} was changed since it was pulled; run: personaprobe questions pull {published.name}"
        )
    return path


def _fetched(published: Published, url: str) -> bytes:
    import httpx

    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=PATIENCE) as answer:
            status, content = f"{answer.status_code} {answer.reason_phrase}".strip(), bytearray()
            for part in answer.iter_bytes():
                content += part
                if len(content) > LARGEST:
                    break
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
        # httpx tells a proxy it cannot use by an ImportError, and a host that is none by a ValueError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot fetch {url}: {reason}; {_by_hand(published)}") from error
    if answer.status_code != httpx.codes.OK:
        raise DataError(f"{url} answered {status}; {_by_hand(published)}")
    return bytes(content)


def _read(published: Published, path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"no file at {path}; {_by_hand(published)}")
    with path.open("rb") as stream:
        return stream.read(LARGEST + 1)


def _refuse_other(published: Published, content: bytes, source: str) -> None:
    """Raise where the bytes are not the published ones, and say whether they are questions at all."""
    found = digest(content, length=64)
    if found == published.sha256:
        return
    if len(content) > LARGEST:
        raise DataError(
            f"{source} holds more than {LARGEST:,} bytes, no question file; {_by_hand(published)}"
        )
    try:
        n = len(parse_questions(content, source))
    except DataError as error:
        raise DataError(f"{error}; {_by_hand(published)}") from error
    raise DataError(
        f"{source} holds {n} questions, and not {published.name} as published: its sha256 is {found[:12]}…, expected "
        f"{published.sha256[:12]}…; ask another version by its path (--questions FILE.yaml), or {_by_hand(published)}"
    )


def _by_hand(published: Published) -> str:
    return (
        f"download {published.url} by hand and run: personaprobe questions pull {published.name} --from PATH"
    )
