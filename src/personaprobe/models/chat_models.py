"""Chat models that complete a question or give probabilities of answers: loaded here, or behind an OpenAI-compatible API."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from personaprobe.errors import EndpointError
from personaprobe.models.endpoints.chat_endpoint import EndpointChatModel
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load
from personaprobe.models.network import Fork
from personaprobe.web.redaction import redacted

SPELLINGS = "local:MODEL (demo, a folder or a Hugging Face id) or openai:MODEL@URL"
_OPENAI = re.compile(r"openai:(?P<model>[^@]+)@(?P<url>https?://.+)")


@runtime_checkable
class ChatModel(Protocol):
    """Completes a question, and gives the probabilities of a few given answers."""

    @property
    def name(self) -> str:
        """The name by which users choose the model."""
        ...

    def cancel(self) -> None:
        """End what other threads wait for, as far as it can be ended."""
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
        EndpointError: another spelling, or an address that cannot be read.
        CheckpointError: the local model cannot be loaded.
    """
    if name.startswith("local:") and name != "local:":
        return LocalChatModel(load(name.removeprefix("local:"), placement))
    if (match := _OPENAI.fullmatch(name)) is not None:
        return EndpointChatModel.open(match["model"], match["url"])
    raise EndpointError(f"no model has the name {redacted(name)!r}: write {SPELLINGS}")


@dataclass(frozen=True)
class LocalChatModel:
    """A loaded model; answers are scored as a whole, so that their tokenization makes no difference."""

    model: LanguageModel

    @property
    def name(self) -> str:
        """The name by which users choose the model, and a digest of its content: judgements are stored under both."""
        return f"local:{self.model.checkpoint} ({self.model.checkpoint.digest[:8]})"

    def cancel(self) -> None:
        """Nothing: a model that is loaded here computes in the caller's own thread."""

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
