"""Files of strangers, opened: every failure is one sentence of the class that the caller names, and sizes are bounded.

All readers of this folder open their files here. A file is refused before more of it is read than its bound, and a
gzipped one before more of it is unpacked than text can be packed.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

from personaprobe.errors import DataError, PersonaProbeError, one_line

ErrorClass: TypeAlias = type[PersonaProbeError]
"""The class of error that a reader raises; it belongs to the room that reads."""

MIB = 1 << 20

LARGEST_TEXT = 256 * MIB
"""Bytes of a text file that is read whole."""

LONGEST_LINE = 16 * MIB
"""Bytes of one line of a file that is read line by line."""

MOST_BLANK_LINES = 1_000_000
"""Lines of at most one character in a row, of which a gzip file of a few bytes can hold any number."""

FREE_EXPANSION, LARGEST_RATIO = 8 * MIB, 100
"""A gzipped file may unpack to so many bytes anyway, and then to so many times the bytes read; text packs 3 to 20 fold."""

POINTER = b"version https://git-lfs"
"""The first bytes of a file whose content Git LFS has not fetched."""


@contextmanager
def refusing(place: object, kind: str, error: ErrorClass, advice: str = "") -> Iterator[None]:
    """Turn every exception of opening and parsing into ``error``; errors of ours pass as they are.

    Args:
        place: the file, with the line where there is one.
        kind: what it should be, such as "JSON".
        error: the class to raise.
        advice: what to do about it.
    """
    try:
        yield
    except PersonaProbeError:
        raise
    except Exception as cause:  # parsers of foreign bytes raise what they like: none of it is a bug of ours
        raise error(_refusal(one_line(place), kind, cause, advice)) from cause


def _refusal(place: str, kind: str, cause: Exception, advice: str) -> str:
    then = f"; {advice}" if advice else ""
    if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
        return f"cannot read {place}: {cause.strerror}{then or '; give a file that can be read'}"
    if isinstance(cause, RecursionError):
        return f"{place} is not {kind}: it is nested too deeply{then}"
    if isinstance(cause, MemoryError):
        return f"cannot read {place}: it needs more memory than there is{then}"
    reason = one_line(cause, 160) or type(cause).__name__
    return f"{place} is not {kind}: {reason}{then}"


def regular_file(path: Path, error: ErrorClass, limit: int | None = None) -> int:
    """The size in bytes of a file; a folder, a pipe or a device, which may never end, is refused.

    Args:
        path: of the file.
        error: raised where it is none, or too large.
        limit: most bytes.
    """
    with refusing(path, "a file", error):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise error(f"cannot read {one_line(path)}: it is {what}; give a file")
    if limit is not None and status.st_size > limit:
        raise error(
            f"{one_line(path)} has {status.st_size:,} bytes, and at most {limit:,} are read; give a smaller file"
        )
    return status.st_size


@contextmanager
def opened(path: Path, error: ErrorClass, limit: int | None = None) -> Iterator[IO[bytes]]:
    """Open a regular file for reading its bytes; one whose name ends in ``.gz`` is unpacked.

    Errors of reading inside the block are turned into ``error`` too.
    """
    regular_file(path, error, limit)
    packed = path.suffix == ".gz"
    with refusing(path, "a gzip file" if packed else "a readable file", error), path.open("rb") as raw:
        yield io.BufferedReader(_Unpacked(raw, path, error), MIB) if packed else raw


def unpacked(content: bytes, place: object, error: ErrorClass, limit: int) -> bytes:
    """Unpack the bytes of a gzip file.

    Args:
        content: of the file.
        place: where it came from, for the error message.
        error: the class to raise.
        limit: bytes after which the rest is left out.
    """
    with refusing(place, "a gzip file", error):
        return io.BufferedReader(_Unpacked(io.BytesIO(content), place, error), MIB).read(limit)


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, refused where it is far larger than what text can be packed into."""

    def __init__(self, raw: io.BufferedIOBase, place: object, error: ErrorClass) -> None:
        super().__init__()
        self._raw_file, self._place, self._error = raw, place, error
        self._unpacking, self._n_bytes = gzip.GzipFile(fileobj=raw, mode="rb"), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_bytes = self._unpacking.readinto(buffer)
        self._n_bytes += n_bytes
        if self._n_bytes > FREE_EXPANSION + LARGEST_RATIO * self._raw_file.tell():
            raise self._error(
                f"{one_line(self._place)} unpacks to more than {LARGEST_RATIO} times its size, as no text does; "
                "unpack it, look at it, and give the plain file"
            )
        return n_bytes


def read_bytes(path: Path, error: ErrorClass = DataError, limit: int = LARGEST_TEXT) -> bytes:
    """Read a file whole; one whose name ends in ``.gz`` is unpacked.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, or holds more than ``limit`` bytes.
    """
    parts, n_bytes = [], 0
    with opened(path, error, limit) as stream:
        while part := stream.read(MIB):
            parts.append(part)
            n_bytes += len(part)
            if n_bytes > limit:
                raise error(f"{one_line(path)} holds more than {limit:,} bytes; give a smaller file")
    return b"".join(parts)


def read_text(path: Path, error: ErrorClass = DataError, limit: int = LARGEST_TEXT) -> str:
    """Read a UTF-8 text file whole, with or without a byte-order mark.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is too large, or is not UTF-8.
    """
    return decoded(read_bytes(path, error, limit), path, error)


def decoded(
    content: bytes, place: object, error: ErrorClass = DataError, advice: str = "save it as UTF-8"
) -> str:
    """Decode UTF-8, with or without a byte-order mark.

    Raises:
        PersonaProbeError: of the class ``error``; names the encoding where the first bytes show it.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{one_line(place)} is not UTF-8 text ({_encoding(content, cause)}); {advice}") from cause


def _encoding(content: bytes, cause: UnicodeDecodeError) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16"
    if content.startswith(b"\x1f\x8b"):
        return "it is gzipped: its name must end in .gz"
    return f"{cause.reason} at byte {cause.start}"


def read_lines(path: Path, error: ErrorClass = DataError) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file with their line ends; a name that ends in ``.gz`` is unpacked.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is not UTF-8 (names the line), or has a line of more
            than 16 MiB.
    """
    with opened(path, error) as stream:
        number = n_blank = 0
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            n_blank = 0 if len(line) > 2 else n_blank + 1
            if len(line) > LONGEST_LINE or n_blank > MOST_BLANK_LINES:
                long = f"is longer than {LONGEST_LINE:,} bytes"
                problem = f"follows {MOST_BLANK_LINES:,} lines that are empty" if n_blank else long
                raise error(f"{one_line(path)}:{number} {problem}; give one row a line")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                decoded(line, f"{path}:{number}", error)
