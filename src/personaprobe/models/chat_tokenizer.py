"""Chat templates: questions and answers as token ids with the role of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from personaprobe.errors import CheckpointError, DataError
from personaprobe.models.tokens import Tokens


@dataclass(frozen=True)
class ChatTokenizer:
    """Tokenises questions and answers with the model's own chat template.

    Attributes:
        hf: the Hugging Face tokenizer.
        system: system message; None for the template's default.
    """

    hf: Any
    system: str | None = None

    @property
    def pad_id(self) -> int:
        """Id of the padding token; the end-of-sequence token where the tokenizer has none."""
        pad = self.hf.pad_token_id if self.hf.pad_token_id is not None else self.hf.eos_token_id
        return int(pad or 0)

    @property
    def end_id(self) -> int:
        """Id of the token that ends an answer.

        Raises:
            CheckpointError: the tokenizer has no end-of-sequence token.
        """
        if self.hf.eos_token_id is None:
            raise CheckpointError("the tokenizer has no end-of-sequence token; set eos_token in its folder")
        return int(self.hf.eos_token_id)

    def prompt(self, question: str, system: str | None = None) -> Tokens:
        """Tokens up to the start of the assistant's answer; the last one also has the role LAST_PROMPT.

        Args:
            question: the user's message.
            system: system message; None for :attr:`system`.

        Raises:
            DataError: the question is empty.
        """
        if not question.strip():
            raise DataError("a question is empty; give it some text")
        return Tokens.prompt(self._templated(question, self.system if system is None else system))

    def _templated(self, question: str, system: str | None) -> list[int]:
        if self.hf.chat_template is None:
            # a pretrained model has no chat template: a plain dialogue stands in for it
            before = "" if system is None else f"{system}\n\n"
            return list(self.hf(f"{before}Question: {question}\nAnswer:")["input_ids"])
        messages = [{"role": "user", "content": question}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        encoded = self.hf.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])

    def exchange(self, question: str, answer: str, *, end: bool = True) -> Tokens:
        """Tokens of a question and its answer; with ``end``, followed by :attr:`end_id`."""
        return self.prompt(question).followed_by(self.reply(question, answer, end=end))

    def reply(self, question: str, answer: str, *, end: bool = True) -> tuple[int, ...]:
        """Token ids of the answer to a question; with ``end``, followed by :attr:`end_id`."""
        if not answer.strip():
            raise DataError(f"the answer to {question[:60]!r} is empty; give it some text")
        ids = tuple(self.hf(answer, add_special_tokens=False)["input_ids"])
        return (*ids, self.end_id) if end else ids

    def text(self, text: str) -> Tokens:
        """Tokens of a plain document."""
        ids = list(self.hf(text)["input_ids"])
        if len(ids) < 2:
            raise DataError(
                f"the text {text[:60]!r} has fewer than two tokens; nothing in it can be predicted"
            )
        return Tokens.document(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Readable text of response ids, special tokens dropped."""
        return str(self.hf.decode(list(ids), skip_special_tokens=True)).strip()
