"""Secrets are masked in every text that is printed or kept: keys, passwords and tokens."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable that holds the key of an endpoint."""

MASK = "***"

MIN_KEY = 6
"""Length of the shortest key that is masked wherever it stands; local servers take words like ``none`` and ``EMPTY``."""

MIN_SECRET = 4
"""The same of secrets in an address. A shorter one could be a number that a judge replies with."""

_NAME = r"(?:key|token|secret|pass|pwd|auth|sig|cred|session|jwt)"
_USER = re.compile(r"(?<=://)[^\s\"'<>]*@")
_FIELD = re.compile(
    rf"(?P<name>(?<![\w%.-])[\w%.-]*{_NAME}[\w%.-]*=)(?P<value>[^\s&#;,\"'<>)\]]+)", re.IGNORECASE
)
_SCHEME = re.compile(r"\b(?P<name>bearer|basic)\s+(?P<value>[\w.~+/=-]{6,})", re.IGNORECASE)
_KEY = re.compile(r"\bsk-[\w-]{8,}")


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask the secrets in a text: users in addresses, values of fields such as ``key=``, credentials, and known keys.

    Args:
        text: an address, a message, or a text that a server sent.
        secrets: further texts that are masked wherever they stand, beside the key in ``OPENAI_API_KEY``.

    Examples:
        >>> redacted("http://me:hush@host/v1?api_key=hush&v=2")
        'http://***@host/v1?api_key=***&v=2'
    """
    for secret in sorted({*secrets, *_forms(api_key() or "", MIN_KEY)}, key=len, reverse=True):
        text = text.replace(secret, MASK) if secret else text
    text = _USER.sub(f"{MASK}@", text)
    for pattern in (_FIELD, _SCHEME):
        text = pattern.sub(lambda match: match[0].replace(match["value"], MASK), text)
    return _KEY.sub(MASK, text)


def api_key() -> str | None:
    """The key in ``OPENAI_API_KEY``, without blanks around it; None where none is set."""
    return os.environ.get(KEY_VARIABLE, "").strip() or None


def secrets_of(url: str) -> frozenset[str]:
    """The secrets in an address, in every form in which a server may send them back; none if it cannot be read."""
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return frozenset()
    fields = {value for name, value in parse_qsl(parts.query) if re.search(_NAME, name, re.IGNORECASE)}
    basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode() if password else ""
    return frozenset(
        form
        for secret in (password, unquote(password), basic, *fields)
        for form in _forms(secret, MIN_SECRET)
    )


def goes_in_plain_sight(url: str) -> bool:
    """Whether others can read the requests to an address: it is not encrypted, and leads to another machine."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "http" or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _forms(secret: str, shortest: int) -> set[str]:
    """A secret as it is, and as addresses spell it; nothing where it is too short to be one."""
    return {secret, quote(secret, safe="")} if len(secret) >= shortest else set()
