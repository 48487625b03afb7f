"""What is to be recorded: texts as every model reads them, with the labels of their rows, at some sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, get_args, runtime_checkable

from personaprobe.errors import DataError, SiteError, suggest
from personaprobe.features.activations.corpus import Corpus
from personaprobe.features.activations.store_files import FORMAT, Keep, RowRole
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.site import Site
from personaprobe.storage.digests import digest, json_digest, tensor_bytes

if TYPE_CHECKING:
    import pyarrow as pa

Texts: TypeAlias = PairSet | TextSet | Corpus | Sequence[str]
"""Questions with their answers, plain documents, or a mixture of conversations and documents."""

DTYPES: dict[Keep, str] = {"means": "float32", "tokens": "bfloat16", "every": "bfloat16"}
"""How rows are kept: rounding a mean would blur the small differences between checkpoints."""


@dataclass(frozen=True)
class Reading:
    """One text as every model of a trio reads it, with the labels its rows carry.

    Attributes:
        tokens: ids and roles.
        id: of the question, or the number of the text.
        family: the subject; empty for plain texts.
        answer: ``careful`` or ``careless``; empty for plain texts.
    """

    tokens: Tokens
    id: str
    family: str = ""
    answer: str = ""

    def rows(self, keep: Keep) -> list[tuple[int, RowRole]]:
        """Position and role of each row this text gives; a mean has position −1."""
        last = self.tokens.n_prompt - 1
        responses = [-1] if keep == "means" else list(range(last + 1, len(self.tokens)))
        rows: list[tuple[int, RowRole]] = [(last, "last_prompt"), *((at, "response") for at in responses)]
        if keep != "every":
            return rows
        # a text's first token attends to nothing but itself: its activation is huge and says nothing of the text
        return [row for row in [*((at, "prompt") for at in range(last)), *rows] if row[0] > 0]


@dataclass(frozen=True)
class Recording:
    """Texts × sites: everything about a store except the model.

    Attributes:
        readings: the texts, in order.
        sites: where, in forward order, each once.
        keep: ``means``, ``tokens`` or ``every``.
    """

    readings: tuple[Reading, ...]
    sites: tuple[Site, ...]
    keep: Keep

    @classmethod
    def of(
        cls, model: LanguageModel, texts: Texts, sites: str | Site | Sequence[str | Site], keep: Keep
    ) -> Recording:
        """Make the token ids, once, with the model's own tokenizer and chat template.

        Raises:
            DataError: no text, an empty or overlong one, or an unknown ``keep``.
            SiteError: no site, or one this model does not have.
        """
        if keep not in get_args(Keep):
            raise DataError(f"cannot keep {keep!r}: {suggest(str(keep), get_args(Keep))}")
        named = [sites] if isinstance(sites, str | Site) else sites
        parsed = tuple(sorted({Site.parse(site) for site in named}))
        recording = cls(tuple(read_as(model.tokenizer, texts)), parsed, keep)
        recording.refuse_unfit(model)
        return recording

    def refuse_unfit(self, model: LanguageModel) -> None:
        """Raise where a model lacks a site, or a text is longer than it can read."""
        if not self.sites or not self.readings:
            lacking = "site" if self.readings else "text"
            error = SiteError if self.readings else DataError
            raise error(f"nothing to record: give at least one {lacking}")
        for site in self.sites:
            if site.within(model.n_layers).stream not in model.network.streams:
                allowed = suggest(site.stream, model.network.streams)
                raise SiteError(f"{model.checkpoint} has no stream {site.stream}: {allowed}")
        limit = int(model.tokenizer.hf.model_max_length)
        for reading in self.readings:
            if len(reading.tokens) > limit:
                raise DataError(
                    f"text {reading.id!r} has {len(reading.tokens)} tokens and {model.checkpoint} reads "
                    f"at most {limit}; shorten it or cut it into several"
                )

    @property
    def n_tokens(self) -> int:
        """Tokens read, of every role."""
        return sum(len(reading.tokens) for reading in self.readings)

    @cached_property
    def n_rows(self) -> int:
        """Rows kept."""
        return sum(len(reading.rows(self.keep)) for reading in self.readings)

    def row_bytes(self, d_model: int) -> int:
        """Bytes of one row at all sites."""
        return len(self.sites) * d_model * (4 if self.keep == "means" else 2)

    def pieces(self, d_model: int, max_bytes: int) -> Iterator[tuple[Reading, ...]]:
        """Consecutive texts whose rows fill one shard; the cut does not depend on the machine."""
        piece: list[Reading] = []
        n_rows = 0
        for reading in self.readings:
            more = len(reading.rows(self.keep))
            if piece and (n_rows + more) * self.row_bytes(d_model) > max_bytes:
                yield tuple(piece)
                piece, n_rows = [], 0
            piece.append(reading)
            n_rows += more
        yield tuple(piece)

    @cached_property
    def tokens_digest(self) -> str:
        """Identity of what is read: token ids and roles. Stores that agree on it align."""
        return json_digest([[reading.tokens.ids, reading.tokens.roles] for reading in self.readings])

    def digest(self, model: LanguageModel) -> str:
        """Identity of the store this makes of a model; batch size and device do not count."""
        labels = [[reading.id, reading.family, reading.answer] for reading in self.readings]
        return json_digest(
            {
                "format": FORMAT,
                "checkpoint": model.checkpoint.digest,
                "dtype": str(model.network.dtype),
                "edits": [identity(edit) for edit in model.edits],
                "tokens": self.tokens_digest,
                "labels": json_digest(labels),
                "sites": list(map(str, self.sites)),
                "keep": self.keep,
            }
        )

    def index(self) -> pa.Table:
        """Labels of every row: ``text``, ``id``, ``family``, ``answer``, ``position``, ``role``."""
        import pyarrow as pa

        labelled = [
            (text, reading.id, reading.family, reading.answer, position, role)
            for text, reading in enumerate(self.readings)
            for position, role in reading.rows(self.keep)
        ]
        names = ("text", "id", "family", "answer", "position", "role")
        return pa.table(dict(zip(names, map(list, zip(*labelled, strict=True)), strict=True)))


def read_as(tokenizer: ChatTokenizer, texts: Texts) -> Iterator[Reading]:
    """Turn texts into token ids: a pair gives two readings, its question with either answer."""
    if isinstance(texts, str):
        raise DataError(f"texts is one string, {texts[:40]!r}; give a list of texts")
    if isinstance(texts, PairSet):
        for pair in texts:
            for answer, said in (("careful", pair.careful), ("careless", pair.careless)):
                yield Reading(tokenizer.exchange(pair.question, said), pair.id, pair.family, answer)
    elif isinstance(texts, Corpus):
        for number, document in enumerate(texts.documents):
            yield Reading(document.tokens, str(number), document.kind)
    else:
        for number, text in enumerate(texts):
            yield Reading(tokenizer.text(text), str(number))


@runtime_checkable
class Digested(Protocol):
    """A value that knows its identity by content."""

    @property
    def digest(self) -> str:
        """Equal content, equal digest."""
        ...


def identity(value: Any) -> Any:
    """Plain data that tells an edit from every other by content; a ``repr`` may hide a vector's values.

    Raises:
        DataError: something in it has no identity, such as a function.
    """
    import torch

    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Digested):
        return [_name(value), value.digest]
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), digest(tensor_bytes(value), length=64)]
    if isinstance(value, Mapping):
        return sorted([str(key), identity(item)] for key, item in value.items())
    if isinstance(value, Sequence):
        return [identity(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [_name(value), {field.name: identity(getattr(value, field.name)) for field in fields(value)}]
    raise DataError(
        f"cannot tell this edit from others by its content: {value!r} has no digest; "
        "record under interventions, or under frozen dataclasses of numbers, strings and tensors"
    )


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
