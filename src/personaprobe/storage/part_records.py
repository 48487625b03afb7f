"""One finished part of a run as a JSON record: its specification, its value, and a hash of both, checked on reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from personaprobe.errors import DataError
from personaprobe.storage.digests import digest, json_digest

FIELDS = {"spec", "value", "sha256"}


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Digest of a part's specification: the name of its file."""
    return json_digest(spec, length=20, default=str)


@dataclass(frozen=True)
class PartRecord:
    """A part that was read back whole.

    Attributes:
        digest: of its specification.
        value: plain data.
    """

    digest: str
    value: Any

    @classmethod
    def parse(cls, text: bytes, fits: Callable[[Any], object] = lambda _: True) -> PartRecord:
        """Read a record that :func:`part_record` made.

        Args:
            text: a file, or a line of one.
            fits: whether the value can be that of a part, such as one number a question; an error of it means no.

        Raises:
            DataError: the record was cut short, changed, or written without a hash; the message goes on after a file's name.
        """
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError among them
            raise DataError(f"is empty or cut short ({type(error).__name__})") from error
        if not isinstance(record, dict) or not isinstance(record.get("spec"), dict):
            raise DataError("holds no part of a run")
        if set(record) != FIELDS:
            raise DataError("has no hash of its content: an older version wrote it")
        if record["sha256"] != _content_digest(record["spec"], record["value"]):
            raise DataError("was changed after it was written: its hash is another")
        try:
            does_fit = bool(fits(record["value"]))
        except (ValueError, TypeError, LookupError, AttributeError):  # DataError is a ValueError
            does_fit = False
        if not does_fit:
            raise DataError("holds a value of another length or kind than this run needs")
        return cls(spec_digest(record["spec"]), record["value"])


def part_record(spec: Mapping[str, Any], value: Any) -> str:
    """A part as one line of JSON."""
    record = {"spec": spec, "value": value, "sha256": _content_digest(spec, value)}
    return json.dumps(record, default=str)


def is_of_spec(record: PartRecord, spec: Mapping[str, Any]) -> bool:
    """Whether a record is the part of a specification."""
    # the specification that was read has been plain data once, with tuples as lists and keys as text
    return record.digest == spec_digest(json.loads(json.dumps(spec, default=str)))


def _content_digest(spec: Mapping[str, Any], value: Any) -> str:
    """Hash of the JSON text; reading and writing it again gives the same text, so that it can be checked."""
    return digest(json.dumps([spec, value], default=str), length=64)
