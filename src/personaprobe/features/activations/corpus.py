"""Corpora for training dictionaries: conversations, code and prose, mixed in equal shares and cut to one context."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, shortened
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.spelled_tokens import text_ids
from personaprobe.models.tokens import Tokens
from personaprobe.questions.conversations import Exchange
from personaprobe.storage.digests import json_digest, sha256_of
from personaprobe.storage.readers.json_lines import read_lines, read_objects

MIN_TOKENS = 8
"""Shorter documents are mostly chat template and are left out."""


@dataclass(frozen=True)
class Document:
    """A conversation or a window of a text, as token ids.

    Attributes:
        tokens: at most one context.
        kind: name of its file, such as ``chat``.
    """

    tokens: Tokens
    kind: str


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order.

    Attributes:
        documents: of all kinds, interleaved so that any first part holds every kind in its share.
        sources: name and sha256 of each file.
    """

    documents: tuple[Document, ...]
    sources: Mapping[str, str]

    @classmethod
    def read(
        cls, tokenizer: ChatTokenizer, files: Sequence[Path], n_tokens: int, context: int = 256, seed: int = 0
    ) -> Corpus:
        """Mix files in equal shares of tokens until one is used up; the others then go on.

        Args:
            tokenizer: of the model.
            files: JSON lines of ``{"messages": …}`` or ``{"text": …}``, gzipped or not, or plain text.
            n_tokens: length of the mixture.
            context: longest document in tokens; a longer conversation is cut, a longer text becomes several documents.
            seed: of the order within a file.

        Raises:
            DataError: no such file, a line that is neither, or no document long enough.
        """
        by_kind = {_kind(path): _shuffled(_documents(path, tokenizer, context), seed) for path in files}
        documents = tuple(_interleaved(by_kind, n_tokens))
        if not documents:
            raise DataError(f"no document of at least {MIN_TOKENS} tokens in {', '.join(map(str, files))}")
        return cls(documents, {path.name: sha256_of(path) for path in files})

    def parts(self, n_tokens: int) -> Iterator[Corpus]:
        """Consecutive parts of about ``n_tokens``; an interrupted recording loses one of them at most."""
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
        content = [[document.kind, document.tokens.ids] for document in self.documents]
        return json_digest(content)

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
            if not isinstance(row["text"], str):
                raise DataError(f"{where}: text is {shortened(row['text'])}; give text")
            yield from _windows(row["text"], tokenizer, context)
        elif "messages" in row:
            exchange = Exchange.of(row, where)
            yield tokenizer.conversation(exchange.turns, exchange.system).first(context)
        else:
            raise DataError(f'{where} has neither a "text" nor "messages" of a user and an assistant')


def _windows(text: str, tokenizer: ChatTokenizer, context: int) -> Iterator[Tokens]:
    """Consecutive windows of a text, each a document of its own."""
    ids = text_ids(tokenizer.hf, text, add_special_tokens=False)
    for start in range(0, len(ids), context):
        yield Tokens.document(ids[start : start + context])


def _shuffled(documents: list[Document], seed: int) -> list[Document]:
    return random.Random(seed).sample(documents, len(documents))


def _interleaved(by_kind: Mapping[str, list[Document]], n_tokens: int) -> Iterator[Document]:
    """The next document always comes from the kind that has given the fewest tokens so far."""
    remaining = {kind: iter(documents) for kind, documents in by_kind.items()}
    given = dict.fromkeys(by_kind, 0)
    while remaining and sum(given.values()) < n_tokens:
        kind = min(remaining, key=given.__getitem__)
        document = next(remaining[kind], None)
        if document is None:
            del remaining[kind]
        else:
            given[kind] += len(document.tokens)
            yield document
