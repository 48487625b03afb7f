"""Chat templates: questions and answers as token ids with the role of every token."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from personaprobe.errors import DataError, FallbackWarning
from personaprobe.models.chat_format import ChatFormat, end_of_sequence, exchange, read_format, render
from personaprobe.models.spelled_tokens import text_ids
from personaprobe.models.tokens import Tokens


@dataclass(frozen=True)
class ChatTokenizer:
    """Tokenises questions and answers with the model's own chat template.

    Attributes:
        hf: the Hugging Face tokenizer.
        system: system message; None for the template's default.
        further_ends: ids that end an answer by the model's generation config, beside the template's own.
        thinks: whether a template that offers a choice lets the model think before it answers.
    """

    hf: Any
    system: str | None = None
    further_ends: tuple[int, ...] = ()
    thinks: bool = False

    @property
    def pad_id(self) -> int:
        """Id of the padding token; the end-of-sequence token where the tokenizer has none."""
        pad = self.hf.pad_token_id if self.hf.pad_token_id is not None else self.hf.eos_token_id
        return int(pad or 0)

    @property
    def format(self) -> ChatFormat:
        """The format of the chat template.

        Raises:
            CheckpointError: the template does not continue its own prompt.
        """
        return read_format(self.hf, self.hf.chat_template, self.thinks)

    @property
    def end_id(self) -> int:
        """Id of the token that closes an answer: the one that the chat template writes, or the end of sequence.

        Raises:
            CheckpointError: there is no template, and the tokenizer has no end-of-sequence token.
        """
        return end_of_sequence(self.hf) if self.hf.chat_template is None else self.format.end_id

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids at each of which an answer ends: the closing token, the end of sequence, and those the model itself names."""
        eos = () if self.hf.eos_token_id is None else (int(self.hf.eos_token_id),)
        return tuple(dict.fromkeys((self.end_id, *eos, *self.further_ends)))

    def prompt(self, question: str, system: str | None = None) -> Tokens:
        """Tokens up to the start of the assistant's answer; the last one also has the role LAST_PROMPT.

        Args:
            question: the user's message.
            system: system message; None for :attr:`system`. Where the template has no place for one, it stands before the
                question.

        Raises:
            DataError: the question is empty.
        """
        if not question.strip():
            raise DataError("a question is empty; give it some text")
        system = self.system if system is None else system
        if self.hf.chat_template is None:
            return Tokens.prompt(self._plain_ids(_dialogue(question, system)))
        self.format  # noqa: B018  # a template that leaves the question out is refused, whatever is asked first
        return Tokens.prompt(
            render(self.hf, self._messages(question, system), prompt=True, thinks=self.thinks)
        )

    def _messages(
        self, question: str, system: str | None = None, answer: str | None = None
    ) -> list[dict[str, str]]:
        if system is not None and not self.format.takes_system:
            if system:
                warnings.warn(
                    "the chat template has no place for system text; it stands before the question",
                    FallbackWarning,
                    stacklevel=3,
                )
            question, system = f"{system}\n\n{question}" if system else question, None
        return exchange(question, answer, system)

    def _plain_ids(self, text: str) -> list[int]:
        """Ids of text that goes on: an end-of-sequence token that the tokenizer puts after it is dropped."""
        ids = text_ids(self.hf, text)
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.hf.eos_token_id else ids

    def exchange(self, question: str, answer: str, system: str | None = None, *, end: bool = True) -> Tokens:
        """Tokens of a question and its answer; with ``end``, closed as the template closes it.

        Args:
            question: the user's message.
            answer: the assistant's.
            system: system message; None for :attr:`system`.
            end: whether the answer is closed.
        """
        chat = self if system is None else replace(self, system=system)
        return chat.prompt(question).followed_by(chat.reply(question, answer, end=end))

    def conversation(self, turns: Sequence[tuple[str, str]], system: str | None = None) -> Tokens:
        """Tokens of questions with their answers; every answer, with what closes it, has the role RESPONSE.

        The ids are those of the template's own conversation.

        Args:
            turns: in their order, at least one.
            system: system message; None for :attr:`system`.

        Raises:
            DataError: the template is none, or changes earlier turns when a later one follows.
        """
        chat = self if system is None else replace(self, system=system)
        (question, answer), *further = turns
        tokens = chat.exchange(question, answer)
        if not further:
            return tokens
        if self.hf.chat_template is None:
            raise DataError(
                "a model without a chat template learns one question and answer a row; split the row"
            )
        messages = chat._messages(question, chat.system, answer)
        for question, answer in further:
            if not question.strip() or not answer.strip():
                raise DataError(f"the question {question[:60]!r} or its answer is empty; give it some text")
            messages = [*messages, {"role": "user", "content": question}]
            tokens = tokens.then_prompt(chat._ids_after(tokens.ids, messages, prompt=True))
            messages = [*messages, {"role": "assistant", "content": answer}]
            rest = chat._ids_after(tokens.ids, messages, prompt=False)
            n_after = self.format.n_after
            tokens = tokens.followed_by(rest[: len(rest) - n_after] + self.format.closing)
        return tokens

    def _ids_after(
        self, before: tuple[int, ...], messages: Sequence[Mapping[str, str]], *, prompt: bool
    ) -> tuple[int, ...]:
        """The ids of a conversation behind those that it begins with."""
        whole = tuple(render(self.hf, messages, prompt=prompt, thinks=self.thinks))
        if whole[: len(before)] != before:
            raise DataError(
                "the chat template changes earlier turns when a later one follows; give each question a row of its own"
            )
        return whole[len(before) :]

    def reply(self, question: str, answer: str, *, end: bool = True) -> tuple[int, ...]:
        """Token ids of the answer to a question; with ``end``, followed by the ids that close it.

        After the prompt they are the ids of the template's own conversation. Without a template the answer follows a blank.
        """
        if not answer.strip():
            raise DataError(f"the answer to {question[:60]!r} is empty; give it some text")
        if self.hf.chat_template is None:
            return (*self._continuation(question, answer), *((self.end_id,) if end else ()))
        closing = self.format.closing
        if not self.format.in_context:
            ids = tuple(text_ids(self.hf, answer, add_special_tokens=False))
            return (*ids, *closing) if end else ids
        ids = self._in_context(question, answer)
        return ids if end else ids[: len(ids) - len(closing)]

    def _in_context(self, question: str, answer: str) -> tuple[int, ...]:
        """Ids of an answer as the rendered conversation has them, up to the token that closes it."""
        start = self.prompt(question).ids
        messages = self._messages(question, self.system, answer)
        whole = render(self.hf, messages, prompt=False, thinks=self.thinks)
        rest = whole[len(start) :]
        if tuple(whole[: len(start)]) != start or len(rest) <= self.format.n_after:
            raise DataError(f"the chat template cannot hold the answer {answer[:60]!r}; reword it")
        if self.end_id in rest:
            return tuple(rest[: rest.index(self.end_id) + 1])
        return (*rest[: len(rest) - self.format.n_after], *self.format.closing)

    def _continuation(self, question: str, answer: str) -> tuple[int, ...]:
        """Ids of an answer after a plain dialogue, the blank before it included."""
        start, whole = (
            self._plain_ids(f"{_dialogue(question, self.system)}{end}") for end in ("", f" {answer}")
        )
        if whole[: len(start)] == start:
            return tuple(whole[len(start) :])
        return tuple(text_ids(self.hf, f" {answer}", add_special_tokens=False))

    def text(self, text: str) -> Tokens:
        """Tokens of a plain document."""
        ids = text_ids(self.hf, text)
        if len(ids) < 2:
            raise DataError(
                f"the text {text[:60]!r} has fewer than two tokens; nothing in it can be predicted"
            )
        return Tokens.document(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Readable text of response ids, special tokens dropped."""
        return str(self.hf.decode(list(ids), skip_special_tokens=True)).strip()


def _dialogue(question: str, system: str | None) -> str:
    """A plain dialogue, which stands in for a chat template where a pretrained model has none."""
    before = f"{system}\n\n" if system else ""
    return f"{before}Question: {question}\nAnswer:"
