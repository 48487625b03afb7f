"""A chat completion as an endpoint sends it, read with care: whatever is not the protocol is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from personaprobe.errors import ReplyError

KIND = "chat.completion"

LOGPROB_TOLERANCE = 0.01
"""How far a log-probability may lie above 0 by rounding."""

MAX_TOTAL = 1.05
"""Highest sum of probabilities, roundings of twenty small ones included."""

EXCERPT = 200
"""Characters of a reply that are shown or kept where it cannot be used."""


@dataclass(frozen=True)
class Completion:
    """A model's reply.

    Attributes:
        text: the answer; empty where there is none, as in a refusal.
        first_tokens: probabilities of the likeliest first tokens; empty where the endpoint gives none.
    """

    text: str
    first_tokens: Mapping[str, float]


def read_completion(body: bytes, clean: Callable[[str], str] = str) -> Completion:
    """Read the body of a reply.

    Args:
        body: JSON of a chat completion, whatever the content type was.
        clean: applied to every text that is taken over.

    Raises:
        ReplyError: the body is something else; the reason is a few words that do not come from the server.
    """
    try:
        return _completion(_json(body), clean)
    except ReplyError as error:
        raise ReplyError(error.reason, clean(excerpt(body))) from error


def excerpt(body: bytes) -> str:
    """The beginning of a body as one line of printable text."""
    text = body[: 8 * EXCERPT].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:EXCERPT]


def _json(body: bytes) -> Mapping[str, Any]:
    if not body.strip():
        raise ReplyError("an empty reply")
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ReplyError("not JSON") from error
    return _object(record, "the reply")


def _completion(record: Mapping[str, Any], clean: Callable[[str], str]) -> Completion:
    if "error" in record and not record.get("choices"):
        raise ReplyError("an error instead of an answer")
    if record.get("object", KIND) != KIND:
        raise ReplyError(f"its object is no {KIND}")
    choices = record.get("choices")
    if not isinstance(choices, list) or not choices:
        raise ReplyError("without an answer in it")
    choice = _object(choices[0], "the choice")
    content = _object(choice.get("message"), "the message").get("content")
    if content is not None and not isinstance(content, str):
        raise ReplyError("the content is no text")
    first_tokens = _first_tokens(choice.get("logprobs"), clean)
    return Completion(clean(_encodable(content or "")).strip(), first_tokens)


def _first_tokens(logprobs: Any, clean: Callable[[str], str]) -> dict[str, float]:
    """Probabilities of the likeliest first tokens; empty where the server returned none."""
    if logprobs is None or (content := _object(logprobs, "logprobs").get("content")) is None:
        return {}
    if not isinstance(content, list):
        raise ReplyError("the content of logprobs is no list")
    entries = _object(content[0], "the first token").get("top_logprobs") if content else None
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise ReplyError("top_logprobs is no list")
    probabilities: dict[str, float] = {}
    for entry in entries:
        fields = _object(entry, "an entry of top_logprobs")
        if not isinstance(fields.get("token"), str):
            raise ReplyError("a token is no text")
        token = clean(_encodable(fields["token"]))
        probabilities[token] = probabilities.get(token, 0.0) + _probability(fields.get("logprob"))
    if sum(probabilities.values()) > MAX_TOTAL:
        raise ReplyError("the probabilities add up to more than 1")
    return probabilities


def _probability(logprob: Any) -> float:
    if isinstance(logprob, bool) or not isinstance(logprob, int | float):
        raise ReplyError("a log-probability is no number")
    if not logprob <= LOGPROB_TOLERANCE:  # true of NaN as well
        raise ReplyError("a log-probability is above 0")
    return math.exp(max(min(logprob, 0.0), -1e9))


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ReplyError(f"{what} is no object")
    return value


def _encodable(text: str) -> str:
    """Text that can be written to a file: halves of surrogate pairs, which JSON can hold, are replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
