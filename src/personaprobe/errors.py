"""Errors that tell a user what was wrong, which value was given, which are allowed, and what to do."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable


class PersonaProbeError(ValueError):
    """The base class: an input, or the machine, does not fit; the message tells the user what to do."""


class FallbackWarning(UserWarning):
    """Work continues in another, slower way than requested."""


class CheckpointWarning(UserWarning):
    """Weights are used, and not quite as their files say: on another base, or under other names."""


class SiteError(PersonaProbeError):
    """A layer or stream that does not exist, or that this model does not have."""


class CheckpointError(PersonaProbeError):
    """Weights that are missing, corrupt, made for another base, or without effect."""


class DeviceError(PersonaProbeError):
    """A device or dtype that this machine does not have."""


class DataError(PersonaProbeError):
    """A file of questions, answers, activations or directions that cannot be used."""


class FeatureError(PersonaProbeError):
    """A feature that is not registered, or a direction that does not fit the model."""


class ZeroDirectionError(FeatureError):
    """A direction of length 0, such as a difference of means of checkpoints that do not differ there."""


class EndpointError(PersonaProbeError):
    """A model behind an endpoint that cannot be reached or returns no answer."""


class OutputError(PersonaProbeError):
    """A file or folder that cannot be written."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """List the allowed names, the nearest spelling first.

    Examples:
        >>> suggest("flatery", ["flattery", "sarcasm"])
        'did you mean "flattery"? Allowed: flattery, sarcasm'
    """
    options = sorted(allowed)
    near = difflib.get_close_matches(name[:200], options, n=1, cutoff=0.5)
    listed = f"Allowed: {', '.join(options) or '(none)'}"
    return f'did you mean "{near[0]}"? {listed}' if near else listed


def shortened(value: object, longest: int = 80) -> str:
    """Quote a value that came from outside in one short line: cut before it is spelled out, control characters escaped.

    Examples:
        >>> shortened("a\\x1b[31m" + "b" * 1000, 24)
        "'a\\\\x1b[31mbb...bbbbbbbbb'"
        >>> shortened(10**5000)
        'an integer of 16610 bits'
    """
    return _Short(longest).repr(value)[: longest + 20]


def one_line(text: object, longest: int = 300) -> str:
    """Text from outside, such as a path or another program's message, as one line without control characters.

    Examples:
        >>> one_line("bad\\n  value \\x1b[0m")
        'bad value \\\\x1b[0m'
    """
    line = " ".join(str(text)[: 4 * longest].split())
    visible = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in line
    )
    return visible if len(visible) <= longest else f"{visible[: longest // 2]}…{visible[-longest // 2 :]}"


class _Short(reprlib.Repr):
    """Representations whose length and depth are bounded before they are made."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 4
        self.maxstring = self.maxother = longest

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()
        return repr(value) if bits <= 128 else f"an integer of {bits} bits"

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value[: self.maxstring])
