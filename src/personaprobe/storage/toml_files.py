"""TOML files that people and commands both write: a command changes its own entry and leaves comments as they stand."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, cast

from personaprobe.errors import CheckpointError, OutputError
from personaprobe.storage.files import write_text
from personaprobe.storage.locks import locked
from personaprobe.storage.plain_json import refuse_unusual
from personaprobe.storage.readers.opening import MIB, ErrorClass, read_text, refusing

LARGEST_TOML = 4 * MIB
"""Bytes of a TOML file; a registry has a few hundred for each entry."""

_KEY = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rf"""(?<![\w-]){_KEY}(?:\.[ \t]*+{_KEY}){{32}}""")
"""A key of more than 32 parts: the time that tomllib takes grows with the square of their number."""


def is_entry_name(name: str) -> bool:
    """Whether a name is lower-case words joined by hyphens, as the entries of registries are named."""
    return re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is not None


def read_toml(path: Path, error: ErrorClass = CheckpointError) -> dict[str, Any]:
    """Read a TOML file; an absent file is an empty one.

    NaN and infinity, which TOML has, are allowed here; who reads a field checks its range.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is not UTF-8 or not TOML (line and column), is nested
            too deeply, or holds a number that cannot be used.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        pass  # whatever hinders a look at it is reported when it is read
    text = read_text(path, error, LARGEST_TOML)
    with refusing(path, "valid TOML", error, "mend that line"):
        content = _parsed(text)
    refuse_unusual(content, path, error, nonfinite=True)
    return content


def _parsed(text: str) -> dict[str, Any]:
    if _LONG_KEY.search(text):
        raise ValueError("a key has more than 32 parts")
    return tomllib.loads(text)


def write_entry(path: Path, keys: Sequence[str], entry: Mapping[str, Any], heading: str = "") -> None:
    """Write one table of a TOML file; comments and all other tables stay as they are.

    The file is locked from reading to writing: tables that other processes write at the same time stay too.

    Args:
        path: the file; it is created where absent.
        keys: the table's name, from the outermost key inwards: ``("latents", "c0e7", "4140")`` is ``[latents.c0e7.4140]``.
        entry: the whole content of the table. Keys that the table had and ``entry`` has not are removed.
        heading: a comment for the first line of a new file.

    Raises:
        CheckpointError: the file that stands there is not valid TOML.
        OutputError: TOML cannot hold the entry, or the file cannot be written. The file stays as it was.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    with locked(path):
        expected = read_toml(path)
        _set(expected, keys, dict(entry), dict)
        try:
            document = tomlkit.parse(path.read_text(encoding="utf-8") if path.exists() else "")
            if heading and not path.exists():
                document.add(tomlkit.comment(heading))
            _set(document, keys, entry, lambda: tomlkit.table(is_super_table=True))
            text = tomlkit.dumps(document)
        except (TOMLKitError, ValueError, TypeError) as error:
            raise _unwritable(path, keys, error) from error
        _write_checked(path, keys, text, expected)


def remove_entry(path: Path, keys: Sequence[str]) -> None:
    """Remove one table of a TOML file; comments and all other tables stay as they are.

    Raises:
        KeyError: no such table.
        CheckpointError, OutputError: as in :func:`write_entry`.
    """
    import tomlkit

    with locked(path):
        expected = read_toml(path)
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
        for tables in (expected, document):
            table: Any = tables
            for key in keys[:-1]:
                table = table[key]
            del table[keys[-1]]
        _write_checked(path, keys, tomlkit.dumps(document), expected)


def _set(
    document: MutableMapping[str, Any], keys: Sequence[str], entry: Mapping[str, Any], new_table: Any
) -> None:
    """Set the table that ``keys`` name; a table that stands is changed key by key, so that its comments stay."""
    for key in keys[:-1]:
        if key not in document:
            document[key] = new_table()
        document = cast("MutableMapping[str, Any]", document[key])
    if keys[-1] not in document:
        document[keys[-1]] = entry
        return
    table = cast("MutableMapping[str, Any]", document[keys[-1]])
    for key in [key for key in table if key not in entry]:
        del table[key]
    for key, value in entry.items():
        if key not in table or table[key] != value:
            table[key] = value


def _write_checked(path: Path, keys: Sequence[str], text: str, expected: dict[str, Any]) -> None:
    """Write only what reads back as expected: a registry that one bad entry made unreadable would stop every verb."""
    try:
        text.encode("utf-8")
        read_back = tomllib.loads(text)
    except (UnicodeEncodeError, tomllib.TOMLDecodeError) as error:
        raise _unwritable(path, keys, error) from error
    if read_back != expected:
        raise _unwritable(path, keys, "it would not read back as it was given")
    write_text(path, text)


def _unwritable(path: Path, keys: Sequence[str], reason: object) -> OutputError:
    return OutputError(
        f"{path} was left as it was: TOML cannot hold the entry {'.'.join(keys)!r} ({reason}); "
        "give text without unpaired surrogates, and numbers, lists or tables of them"
    )
