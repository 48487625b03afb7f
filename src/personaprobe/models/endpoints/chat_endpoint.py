"""A chat model behind an OpenAI-compatible endpoint: requests, repeated where that may help, and their failures."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from personaprobe.errors import EndpointError, EndpointWarning, ReplyError, TransferError
from personaprobe.models.endpoints.completion import Completion, excerpt, read_completion
from personaprobe.models.endpoints.retry_after import come_back, retry_after
from personaprobe.web.redaction import KEY_VARIABLE, api_key, goes_in_plain_sight, redacted, secrets_of
from personaprobe.web.transfer import HttpClient, HttpReply

TOP_LOGPROBS = 20
"""Number of log-probabilities per token that are requested: the protocol's maximum."""

CHOICE_TOKENS = 8
"""Length of a completion that is read as a choice, where a server returns no log-probabilities."""

RETRIES = 5
"""Attempts after a request failed or was rejected as too early; the pauses between them double."""

RETRIES_OF_REPLIES = 1
"""Attempts after a reply that is not the protocol: a proxy may have cut or replaced it."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Seconds. A server that wants to be left alone for longer ends the run, which can be continued later."""

TIMEOUT = 120.0
"""Seconds that a request may take as a whole; a few tokens of a large model on a slow machine take less."""

MAX_BYTES = 4_000_000
"""Largest reply that is read; an answer of a few tokens with its log-probabilities has a thousandth of it."""

TEMPORARY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes after which the same request may succeed."""

OF_THE_REQUEST = frozenset({400, 413, 422, 500})
"""Status codes that may concern one request alone, such as a text that is too long, or that a filter rejects."""

ORGANISATION = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
"""Environment variables that OpenAI's own client sends as headers."""


@dataclass(frozen=True)
class EndpointChatModel:
    """A model behind an OpenAI-compatible endpoint, at temperature 0.

    Attributes:
        model: its name there.
        url: the base URL, as given. It may hold secrets: :attr:`name` and every message show it redacted.
        client: sends the requests.
    """

    model: str
    url: str = field(repr=False)
    client: HttpClient = field(repr=False, compare=False)

    @classmethod
    def open(cls, model: str, url: str) -> EndpointChatModel:
        """Check an endpoint's address and the key in ``OPENAI_API_KEY``; nothing is sent yet.

        Raises:
            EndpointError: the address cannot be read, or the key cannot be sent.
        """
        _refuse_unreadable(url)
        key = api_key()
        if key is not None and not (key.isascii() and key.isprintable()):
            raise EndpointError(f"{KEY_VARIABLE} holds characters that no key has; set it again")
        if goes_in_plain_sight(url) and (key is not None or secrets_of(url)):
            warnings.warn(
                f"the key goes over plain http to {urlsplit(url).hostname}, where others on the way can read it; use https",
                EndpointWarning,
                stacklevel=3,
            )
        return cls(model, url, HttpClient(MAX_BYTES, TIMEOUT))

    @property
    def name(self) -> str:
        """The name by which users choose the model, without secrets."""
        return f"openai:{self.model}@{redacted(self.url)}"

    def cancel(self) -> None:
        """End all requests under way."""
        self.client.cancel()

    def complete(self, question: str, max_tokens: int) -> str:
        """The most probable answer, cut after ``max_tokens``."""
        return self._request(question, max_tokens).text

    def choice_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of the choices by their first token; without log-probabilities, all on the answer given."""
        totals = dict.fromkeys(choices, 0.0)
        for token, probability in self.first_token_probabilities(question, choices).items():
            matching = [
                choice for choice in choices if _may_begin(choice, token) or _starts_with(token, choice)
            ]
            if len(matching) == 1:
                totals[matching[0]] += probability
        total = sum(totals.values())
        return {choice: share / total if total else 1 / len(choices) for choice, share in totals.items()}

    def first_token_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of the most probable first tokens; without log-probabilities, all on the answer given."""
        return self._top_tokens(question) or {self.complete(question, CHOICE_TOKENS): 1.0}

    def _top_tokens(self, question: str) -> dict[str, float]:
        """Probabilities of the first token; empty where the server supports no log-probabilities."""
        try:
            completion = self._request(question, 1, logprobs=True, top_logprobs=TOP_LOGPROBS)
        except ReplyError as error:
            if error.status in (400, 422):
                return {}
            raise
        return dict(completion.first_tokens)

    def _request(self, question: str, max_tokens: int, **options: Any) -> Completion:
        """A completion, after as many attempts as a failure is worth.

        Raises:
            EndpointError: the endpoint fails; ReplyError, if only its reply to this question is of no use.
        """
        messages = [{"role": "user", "content": question}]
        payload = {"model": self.model, "messages": messages, "max_tokens": max_tokens, "temperature": 0.0}
        content = json.dumps(payload | options).encode()
        n_failed = 0
        while isinstance(outcome := self._attempt(content), _Failure):
            if n_failed >= outcome.retries:
                raise outcome.error
            pause = FIRST_PAUSE * 2**n_failed if outcome.pause is None else outcome.pause
            try:
                self.client.pause(pause)
            except TransferError as error:
                raise self._error(str(error)) from error
            n_failed += 1
        return outcome

    def _attempt(self, content: bytes) -> Completion | _Failure:
        try:
            reply = self.client.send("POST", self._address, self._headers, content)
        except TransferError as error:
            if error.replied:
                unusable = ReplyError(error.reason, self._clean(error.detail) or None)
                return _Failure(unusable, RETRIES if error.temporary else 0)
            return _Failure(self._error(str(error)), RETRIES if error.temporary else 0)
        if not 200 <= reply.status < 300:
            return self._rejection(reply)
        try:
            return read_completion(reply.body, self._clean)
        except ReplyError as error:
            return _Failure(error, RETRIES_OF_REPLIES)

    def _rejection(self, reply: HttpReply) -> _Failure:
        """The failure that a status outside 200–299 stands for."""
        words = self._clean(_message(reply.body))
        wait = retry_after(reply.headers)
        is_too_long = wait is not None and wait > LONGEST_PAUSE
        retries = RETRIES if reply.status in TEMPORARY and not is_too_long else 0
        if reply.status in OF_THE_REQUEST and not is_too_long:
            return _Failure(ReplyError(f"status {reply.status_text}", words, reply.status), retries, wait)
        later = f"; come back {come_back(wait)}" if wait and reply.status in TEMPORARY else ""
        reason = ": ".join(part for part in (reply.status_text, words) if part)
        return _Failure(self._error(f"{reason}{later}"), retries, wait)

    def _error(self, reason: str) -> EndpointError:
        return EndpointError(
            f"{redacted(self.url)} does not answer as {self.model}: {self._clean(reason)}; check that the server runs, that "
            f"the model's name is right and that {KEY_VARIABLE} is set"
        )

    def _clean(self, text: str) -> str:
        return redacted(text, secrets_of(self.url))

    @property
    def _address(self) -> str:
        parts = urlsplit(self.url)
        return parts._replace(path=f"{parts.path.rstrip('/')}/chat/completions", fragment="").geturl()

    @property
    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {
            name: os.environ[variable] for variable, name in ORGANISATION.items() if variable in os.environ
        }
        key = api_key()
        return headers if key is None else headers | {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class _Failure:
    """A failed attempt.

    Attributes:
        error: raised where no attempt is left.
        retries: how many attempts may follow in all.
        pause: seconds that the server wants between them; None for our own choice.
    """

    error: EndpointError
    retries: int
    pause: float | None = None


def _message(body: bytes) -> str:
    """The server's words about an error: the protocol's message, or the beginning of whatever it sent."""
    try:
        record = json.loads(body)
        message = record["error"]["message"] if isinstance(record["error"], dict) else record["error"]
        return excerpt(message.encode("utf-8", "replace"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return excerpt(body)


def _refuse_unreadable(url: str) -> None:
    """Raise for an address that cannot be read; the message does not show it, since a password may be anywhere in it."""
    try:
        parts = urlsplit(url)
        # a second @ is a part of a password that holds a slash, or would hide the host where users are masked
        is_readable = bool(parts.hostname) and parts.port != 0 and "@" not in f"{parts.path}{parts.query}"
    except ValueError:
        is_readable = False
    if not is_readable or not url.isprintable() or " " in url:
        raise EndpointError(
            "the address of the endpoint cannot be read; write http:// or https://, a host and its base path, and "
            "percent-encode special characters (@ as %40, / as %2F)"
        )


def _may_begin(choice: str, token: str) -> bool:
    """Whether a token may be the first of a choice, ignoring case and blanks."""
    token = token.strip().lower()
    return bool(token) and choice.strip().lower().startswith(token)


def _starts_with(answer: str, choice: str) -> bool:
    """Whether an answer begins with a choice that is not part of a longer word."""
    return re.match(rf"{re.escape(choice.strip())}(?!\w)", answer.strip(), re.IGNORECASE) is not None
