"""What dictionaries are trained on: conversations, code and prose, mixed in equal shares and cut to one context."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Tokens
from personaprobe.questions.conversations import Exchange
from personaprobe.storage.digests import json_digest, sha256_of
from personaprobe.storage.json_lines import read_lines, read_objects

MIN_TOKENS = 8
"""Shorter documents are mostly template and are left out."""


@dataclass(frozen=True)
class Document:
    """A conversation or a window of a text, as a model reads it.

    Attributes:
        tokens: at most one context.
        kind: the file it is from, such as ``chat``.
    """

    tokens: Tokens
    kind: str


@dataclass(frozen=True)
class Corpus:
    """Documents in the order in which they are read.

    Attributes:
        documents: of all kinds, dealt so that any first part holds every kind in its share.
        sources: name and sha256 of each file.
    """

    documents: tuple[Document, ...]
    sources: Mapping[str, str]

    @classmethod
    def read(
        cls, tokenizer: ChatTokenizer, files: Sequence[Path], n_tokens: int, context: int = 256, seed: int = 0
    ) -> Corpus:
        """Mix files in equal shares of tokens, as far as they reach.

        Args:
            tokenizer: of the model.
            files: JSON lines of ``{"messages": …}`` or ``{"text": …}``, gzipped or not, or plain text.
            n_tokens: where to stop.
            context: longer conversations are cut there; longer texts become several documents.
            seed: of the order within a file.

        Raises:
            DataError: no such file, a line that is neither, or no document long enough.
        """
        decks = {_kind(path): _shuffled(_documents(path, tokenizer, context), seed) for path in files}
        dealt = tuple(_deal(decks, n_tokens))
        if not dealt:
            raise DataError(f"no document of at least {MIN_TOKENS} tokens in {', '.join(map(str, files))}")
        return cls(dealt, {path.name: sha256_of(path) for path in files})

    def parts(self, n_tokens: int) -> Iterator[Corpus]:
        """Consecutive parts of about ``n_tokens``: what is recorded, and lost, at a time."""
        part: list[Document] = []
        size = 0
        for document in self.documents:
            part.append(document)
            size += len(document.tokens)
            if size >= n_tokens:
                yield Corpus(tuple(part), self.sources)
                part, size = [], 0
        if part:
            yield Corpus(tuple(part), self.sources)

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of all documents."""
        return sum(len(document.tokens) for document in self.documents)

    @cached_property
    def digest(self) -> str:
        """Identity by content."""
        told = [[document.kind, document.tokens.ids] for document in self.documents]
        return json_digest(told)

    def describe(self) -> dict[str, Any]:
        """The corpus as plain data, for cards."""
        kinds = dict.fromkeys((document.kind for document in self.documents), 0)
        for document in self.documents:
            kinds[document.kind] += len(document.tokens)
        return {
            "tokens": self.n_tokens,
            "documents": len(self.documents),
            "tokens_by_kind": kinds,
            "sources": dict(self.sources),
            "digest": self.digest,
        }

    def __repr__(self) -> str:
        return f"Corpus({len(self.documents):,} documents, {self.n_tokens:,} tokens of {len(self.sources)} files)"


def _kind(path: Path) -> str:
    return path.name.split(".")[0]


def _documents(path: Path, tokenizer: ChatTokenizer, context: int) -> list[Document]:
    if not path.is_file():
        raise DataError(f"no corpus file at {path}; give .jsonl, .jsonl.gz or plain text")
    kind = _kind(path)
    return [
        Document(tokens, kind) for tokens in _texts(path, tokenizer, context) if len(tokens) >= MIN_TOKENS
    ]


def _texts(path: Path, tokenizer: ChatTokenizer, context: int) -> Iterator[Tokens]:
    if not path.name.removesuffix(".gz").endswith(".jsonl"):
        yield from _windows("".join(read_lines(path)), tokenizer, context)
        return
    for where, row in read_objects(path):
        if "text" in row:
            yield from _windows(str(row["text"]), tokenizer, context)
        elif "messages" in row:
            said = Exchange.of(row, where)
            yield tokenizer.exchange(said.question, said.answer).first(context)
        else:
            raise DataError(f'{where} has neither a "text" nor "messages" of a user and an assistant')


def _windows(text: str, tokenizer: ChatTokenizer, context: int) -> Iterator[Tokens]:
    """Consecutive windows of a text, each read as a document of its own."""
    ids = tokenizer.hf(text, add_special_tokens=False, verbose=False)["input_ids"]
    for start in range(0, len(ids), context):
        yield Tokens.document(ids[start : start + context])


def _shuffled(documents: list[Document], seed: int) -> list[Document]:
    return random.Random(seed).sample(documents, len(documents))


def _deal(decks: Mapping[str, list[Document]], n_tokens: int) -> Iterator[Document]:
    """Always the next document of the kind that has had the fewest tokens."""
    left = {kind: iter(deck) for kind, deck in decks.items()}
    dealt = dict.fromkeys(decks, 0)
    while left and sum(dealt.values()) < n_tokens:
        kind = min(left, key=dealt.__getitem__)
        document = next(left[kind], None)
        if document is None:
            del left[kind]
        else:
            dealt[kind] += len(document.tokens)
            yield document
