"""Errors that tell a user what was wrong, which value was given, which are allowed, and what to do."""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from collections.abc import Iterable

_HARMLESS = frozenset("\n\t\u200c\u200d")
"""Characters without a glyph that stay as they are: line feed, tab, and the joiners that scripts and emoji need."""


class PersonaProbeError(ValueError):
    """The base class: an input, or the machine, does not fit; the message tells the user what to do."""


class FallbackWarning(UserWarning):
    """Work continues in another, slower way than requested."""


class CheckpointWarning(UserWarning):
    """Weights are used, and not quite as their files say: on another base, or under other names."""


class EndpointWarning(UserWarning):
    """A model behind an endpoint is used in a way that others could take advantage of."""


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


class ReplyError(EndpointError):
    """One reply of an endpoint that cannot be used; its replies to other requests may be.

    Attributes:
        reason: a few words; equal failures have equal ones, so that they can be counted.
        excerpt: the beginning of the reply, without secrets; None where nothing was read.
        status: of a request that was rejected; None for a reply that is not the protocol.
    """

    def __init__(self, reason: str, excerpt: str | None = None, status: int | None = None) -> None:
        super().__init__(f"the endpoint's reply cannot be used: {reason}{f' ({excerpt})' if excerpt else ''}")
        self.reason = reason
        self.excerpt = excerpt
        self.status = status


class TransferError(PersonaProbeError):
    """A request over the network without a whole reply.

    Attributes:
        reason: what went wrong, in our own words.
        detail: the same in the words of a library or a server; empty where there are none.
        temporary: whether the same request may succeed later.
        replied: whether the server did reply, or broke off, so that its replies to other requests may be whole.
    """

    def __init__(
        self, reason: str, detail: str = "", *, temporary: bool = False, replied: bool = False
    ) -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.temporary = temporary
        self.replied = replied


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
        "'a\\\\x1b[31m...bbbbbbbbbb'"
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
    whole = str(text)
    if len(whole) > 4 * longest:  # the end, which says what to do, is not lost
        whole = f"{whole[: 2 * longest]} … {whole[-2 * longest :]}"
    line = visible(" ".join(whole.split()))
    return line if len(line) <= longest else f"{line[: longest // 2]}…{line[-longest // 2 :]}"


def visible(text: str) -> str:
    """Text from outside with its control characters spelled out: escapes, overrides of direction, lone surrogates.

    A terminal would obey them and a page would show other text than there is; surrogates cannot be written at all.

    Examples:
        >>> visible("red \\x1b[31m, left \\u202e, 日本\\u3000語")
        'red \\\\x1b[31m, left \\\\u202e, 日本\\u3000語'
    """
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else _spelled(c) for c in text.replace("\r\n", "\n"))


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character in _HARMLESS or unicodedata.category(character) == "Zs"


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()


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
