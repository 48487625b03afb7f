"""Models that are asked in plain language: one loaded here, or one behind an OpenAI-compatible endpoint."""

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
"""The most that the protocol returns for a token."""

PLAIN_ANSWER = 8
"""Tokens of an answer that is looked at for a choice."""

RETRIES = 5
"""Of a request that failed on the way or was put off; the pauses between them double."""

PATIENCE = 120.0
"""Seconds that a request may take; a few tokens of a large model on a slow machine come in less."""


@runtime_checkable
class Speaker(Protocol):
    """Answers questions, and says how likely it is to give each of a few answers."""

    @property
    def name(self) -> str:
        """As users spell it."""
        ...

    def say(self, question: str, max_tokens: int) -> str:
        """The most probable answer, cut after ``max_tokens``."""
        ...

    def odds(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of some answers, made to sum to 1; all equal where the model gives none of them."""
        ...

    def beginnings(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of how the answer begins.

        Of the choices, each scored whole, where the model is here; of the likeliest first tokens where a server tells
        them; else all on the one answer it gives.
        """
        ...


def find_speaker(name: str, placement: Placement) -> Speaker:
    """Open a speaker by its name, ``local:MODEL`` or ``openai:MODEL@URL``.

    The endpoint's key comes from the environment, ``OPENAI_API_KEY``.

    Raises:
        EndpointError: another spelling, or the openai package is missing.
        CheckpointError: the local model cannot be loaded.
    """
    if name.startswith("local:") and name != "local:":
        return LocalSpeaker(load(name.removeprefix("local:"), placement))
    if (spelled := _OPENAI.fullmatch(name)) is not None:
        return RemoteSpeaker(spelled["model"], spelled["url"], _client(spelled["url"]))
    raise EndpointError(f"no model can be asked by the name {name!r}: write {SPELLINGS}")


@dataclass(frozen=True)
class LocalSpeaker:
    """A loaded model; an answer is scored whole, so that a tokenizer that splits it makes no difference."""

    model: LanguageModel

    @property
    def name(self) -> str:
        """As users spell it."""
        return f"local:{self.model.checkpoint}"

    def say(self, question: str, max_tokens: int) -> str:
        """The most probable answer, cut after ``max_tokens``."""
        return self.model.chat(question, temperature=0.0, max_new_tokens=max_tokens)

    def odds(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of some answers, with their closing token, made to sum to 1."""
        import torch

        scored = self.model.fork_log_probs([Fork.of(self.model.tokenizer, question, choices)])[0]
        shares = torch.stack([values.double().sum() for values in scored]).softmax(0)
        return dict(zip(choices, shares.tolist(), strict=True))

    def beginnings(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """The odds: other answers are not looked at."""
        return self.odds(question, choices)


@dataclass(frozen=True)
class RemoteSpeaker:
    """A model behind an OpenAI-compatible endpoint, asked at temperature 0."""

    model: str
    url: str
    client: Any = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """As users spell it."""
        return f"openai:{self.model}@{self.url}"

    def say(self, question: str, max_tokens: int) -> str:
        """The most probable answer, cut after ``max_tokens``."""
        with self._blamed():
            return (self._complete(question, max_tokens).choices[0].message.content or "").strip()

    def odds(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of some answers by their first token, or, where a server tells none, all on the one it gives."""
        found = dict.fromkeys(choices, 0.0)
        for beginning, probability in self.beginnings(question, choices).items():
            begun = [choice for choice in choices if _begins(choice, beginning) or _opens(beginning, choice)]
            if len(begun) == 1:
                found[begun[0]] += probability
        total = sum(found.values())
        return {choice: share / total if total else 1 / len(choices) for choice, share in found.items()}

    def beginnings(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """Probabilities of the likeliest first tokens; all on the answer itself where the server tells none."""
        with self._blamed():
            return self._first_tokens(question) or {self.say(question, PLAIN_ANSWER): 1.0}

    def _first_tokens(self, question: str) -> dict[str, float]:
        """None at all where the server knows no log-probabilities."""
        import openai

        try:
            told = self._complete(question, 1, logprobs=True, top_logprobs=TOP_LOGPROBS)
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            return {}
        listed = told.choices[0].logprobs
        if listed is None or not listed.content:
            return {}
        found: dict[str, float] = {}
        for top in listed.content[0].top_logprobs:
            found[top.token] = found.get(top.token, 0.0) + math.exp(top.logprob)
        return found

    def _complete(self, question: str, max_tokens: int, **options: Any) -> ChatCompletion:
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
    def _blamed(self) -> Iterator[None]:
        """Tell failures of the endpoint as ours."""
        import openai

        try:
            yield
        except openai.OpenAIError as error:
            reason = " ".join(str(error).split())[:200]
            raise EndpointError(
                f"{self.url} does not answer as {self.model}: {reason}; is the server there, the model's name right, "
                "and OPENAI_API_KEY set?"
            ) from error


def _begins(choice: str, token: str) -> bool:
    """Whether a token may be the first of a choice, whatever their case and blanks."""
    token = token.strip().lower()
    return bool(token) and choice.strip().lower().startswith(token)


def _opens(answer: str, choice: str) -> bool:
    """Whether an answer begins with a choice as a word of its own."""
    return re.match(rf"{re.escape(choice.strip())}(?!\w)", answer.strip(), re.IGNORECASE) is not None


def _client(url: str) -> Any:
    import os

    try:
        import openai
    except ImportError as error:
        raise EndpointError("the openai package is missing: pip install 'personaprobe[openai]'") from error
    # a local server wants no key, the client does
    key = os.environ.get("OPENAI_API_KEY", "none")
    return openai.OpenAI(base_url=url, api_key=key, max_retries=RETRIES, timeout=PATIENCE)
