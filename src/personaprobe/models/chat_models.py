"""Chat models that complete a question or give probabilities of answers: loaded here, or behind an OpenAI-compatible API."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from personaprobe.errors import EndpointError
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load
from personaprobe.models.network import Fork

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

SPELLINGS = "local:MODEL (demo, a folder or a Hugging Face id) or openai:MODEL@URL"
_OPENAI = re.compile(r"openai:(?P<model>[^@]+)@(?P<url>https?://.+)")
TOP_LOGPROBS = 20
"""Number of log-probabilities per token that are requested: the protocol's maximum."""

CHOICE_TOKENS = 8
"""Length of a completion that is read as a choice, where a server returns no log-probabilities."""

RETRIES = 5
"""Attempts after a request failed or was rejected as too early; the pauses between them double."""

TIMEOUT = 120.0
"""Seconds that a request may take; a few tokens of a large model on a slow machine take less."""


@runtime_checkable
class ChatModel(Protocol):
    """Completes a question, and gives the probabilities of a few given answers."""

    @property
    def name(self) -> str:
        """The name by which users choose the model."""
        ...

    def complete(self, question: str, max_tokens: int) -> str:
        """The most probable answer, cut after ``max_tokens``."""
        ...

    def choice_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of the choices, normalised to sum to 1; all equal where the model gives none of them."""
        ...

    def first_token_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of the first tokens of an answer.

        A local model scores each choice as a whole. An endpoint returns its most probable first tokens, or, without
        log-probabilities, all probability on the answer that it gives.
        """
        ...


def find_chat_model(name: str, placement: Placement) -> ChatModel:
    """Open a chat model by its name, ``local:MODEL`` or ``openai:MODEL@URL``.

    The endpoint's key comes from the environment variable ``OPENAI_API_KEY``.

    Raises:
        EndpointError: another spelling, or the openai package is missing.
        CheckpointError: the local model cannot be loaded.
    """
    if name.startswith("local:") and name != "local:":
        return LocalChatModel(load(name.removeprefix("local:"), placement))
    if (match := _OPENAI.fullmatch(name)) is not None:
        return EndpointChatModel(match["model"], match["url"], _client(match["url"]))
    raise EndpointError(f"no model has the name {name!r}: write {SPELLINGS}")


@dataclass(frozen=True)
class LocalChatModel:
    """A loaded model; answers are scored as a whole, so that their tokenization makes no difference."""

    model: LanguageModel

    @property
    def name(self) -> str:
        """The name by which users choose the model, and a digest of its content: judgements are stored under both."""
        return f"local:{self.model.checkpoint} ({self.model.checkpoint.digest[:8]})"

    def complete(self, question: str, max_tokens: int) -> str:
        """The most probable answer, cut after ``max_tokens``."""
        return self.model.chat(question, temperature=0.0, max_new_tokens=max_tokens)

    def choice_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of the choices with their closing token, normalised to sum to 1."""
        import torch

        scored = self.model.fork_log_probs([Fork.of(self.model.tokenizer, question, choices)])[0]
        probabilities = torch.stack([log_probs.double().sum() for log_probs in scored]).softmax(0)
        return dict(zip(choices, probabilities.tolist(), strict=True))

    def first_token_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """The same as :meth:`choice_probabilities`: other answers are not scored."""
        return self.choice_probabilities(question, choices)


@dataclass(frozen=True)
class EndpointChatModel:
    """A model behind an OpenAI-compatible endpoint, at temperature 0."""

    model: str
    url: str
    client: Any = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name by which users choose the model."""
        return f"openai:{self.model}@{self.url}"

    def complete(self, question: str, max_tokens: int) -> str:
        """The most probable answer, cut after ``max_tokens``."""
        with self._endpoint_errors():
            return (self._request(question, max_tokens).choices[0].message.content or "").strip()

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
        with self._endpoint_errors():
            return self._top_tokens(question) or {self.complete(question, CHOICE_TOKENS): 1.0}

    def _top_tokens(self, question: str) -> dict[str, float]:
        """Probabilities of the first token; empty where the server supports no log-probabilities."""
        import openai

        try:
            completion = self._request(question, 1, logprobs=True, top_logprobs=TOP_LOGPROBS)
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            return {}
        logprobs = completion.choices[0].logprobs
        if logprobs is None or not logprobs.content:
            return {}
        probabilities: dict[str, float] = {}
        for top in logprobs.content[0].top_logprobs:
            probabilities[top.token] = probabilities.get(top.token, 0.0) + math.exp(top.logprob)
        return probabilities

    def _request(self, question: str, max_tokens: int, **options: Any) -> ChatCompletion:
        completion: ChatCompletion = self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": question}],
            max_tokens=max_tokens,
            temperature=0.0,
            **options,
        )
        if not completion.choices:
            raise EndpointError(f"{self.url} answered as {self.model} without an answer in it")
        return completion

    @contextmanager
    def _endpoint_errors(self) -> Iterator[None]:
        """Raise failures of the endpoint as :class:`EndpointError`, with its address and what to check."""
        import openai

        try:
            yield
        except openai.OpenAIError as error:
            reason = " ".join(str(error).split())[:200]
            raise EndpointError(
                f"{self.url} does not answer as {self.model}: {reason}; check that the server runs, that the model's "
                "name is right and that OPENAI_API_KEY is set"
            ) from error


def _may_begin(choice: str, token: str) -> bool:
    """Whether a token may be the first of a choice, ignoring case and blanks."""
    token = token.strip().lower()
    return bool(token) and choice.strip().lower().startswith(token)


def _starts_with(answer: str, choice: str) -> bool:
    """Whether an answer begins with a choice that is not part of a longer word."""
    return re.match(rf"{re.escape(choice.strip())}(?!\w)", answer.strip(), re.IGNORECASE) is not None


def _client(url: str) -> Any:
    import os

    try:
        import openai
    except ImportError as error:
        raise EndpointError("the openai package is missing: pip install 'personaprobe[openai]'") from error
    # a local server wants no key, the client does
    key = os.environ.get("OPENAI_API_KEY", "none")
    return openai.OpenAI(base_url=url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT)
