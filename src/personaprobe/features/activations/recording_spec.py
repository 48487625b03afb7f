"""The specification of a recording: tokenised texts, the labels of their rows, and sites."""

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
"""Questions with their answers, plain documents, or a corpus of conversations and documents."""

DTYPES: dict[Keep, str] = {"means": "float32", "tokens": "bfloat16", "every": "bfloat16"}
"""Precision of the rows: rounding a mean would blur the small differences between checkpoints."""


@dataclass(frozen=True)
class TokenizedText:
    """One text as token ids, the same for every model of a trio, with the labels of its rows.

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
        """Position and role of each row of this text; a mean has position −1."""
        last = self.tokens.n_prompt - 1
        responses = [-1] if keep == "means" else list(range(last + 1, len(self.tokens)))
        rows: list[tuple[int, RowRole]] = [
            (last, "last_prompt"),
            *((position, "response") for position in responses),
        ]
        if keep != "every":
            return rows
        # a text's first token attends to itself alone: its activation is huge and independent of the text
        return [row for row in [*((position, "prompt") for position in range(last)), *rows] if row[0] > 0]


@dataclass(frozen=True)
class RecordingSpec:
    """Texts and sites: everything about a store except the model.

    Attributes:
        texts: in order.
        sites: in forward order, each once.
        keep: ``means``, ``tokens`` or ``every``.
    """

    texts: tuple[TokenizedText, ...]
    sites: tuple[Site, ...]
    keep: Keep

    @classmethod
    def of(
        cls, model: LanguageModel, texts: Texts, sites: str | Site | Sequence[str | Site], keep: Keep
    ) -> RecordingSpec:
        """Tokenise the texts once, with the model's own tokenizer and chat template.

        Raises:
            DataError: no text, an empty or overlong one, or an unknown ``keep``.
            SiteError: no site, or one this model does not have.
        """
        if keep not in get_args(Keep):
            raise DataError(f"cannot keep {keep!r}: {suggest(str(keep), get_args(Keep))}")
        named = [sites] if isinstance(sites, str | Site) else sites
        parsed = tuple(sorted({Site.parse(site) for site in named}))
        spec = cls(tuple(tokenize(model.tokenizer, texts)), parsed, keep)
        spec.refuse_unfit(model)
        return spec

    def refuse_unfit(self, model: LanguageModel) -> None:
        """Raise where a model lacks a site, or a text is longer than its context."""
        if not self.sites or not self.texts:
            lacking = "site" if self.texts else "text"
            error = SiteError if self.texts else DataError
            raise error(f"nothing to record: give at least one {lacking}")
        for site in self.sites:
            if site.within(model.n_layers).stream not in model.network.streams:
                allowed = suggest(site.stream, model.network.streams)
                raise SiteError(f"{model.checkpoint} has no stream {site.stream}: {allowed}")
        limit = int(model.tokenizer.hf.model_max_length)
        for text in self.texts:
            if len(text.tokens) > limit:
                raise DataError(
                    f"text {text.id!r} has {len(text.tokens)} tokens and {model.checkpoint} reads "
                    f"at most {limit}; shorten it or cut it into several"
                )

    @property
    def n_tokens(self) -> int:
        """Tokens of every role."""
        return sum(len(text.tokens) for text in self.texts)

    @cached_property
    def n_rows(self) -> int:
        """Rows kept."""
        return sum(len(text.rows(self.keep)) for text in self.texts)

    def row_bytes(self, d_model: int) -> int:
        """Bytes of one row at all sites."""
        return len(self.sites) * d_model * (4 if self.keep == "means" else 2)

    def shards(self, d_model: int, max_bytes: int) -> Iterator[tuple[TokenizedText, ...]]:
        """Consecutive texts whose rows fill one shard; the cut does not depend on the machine."""
        shard: list[TokenizedText] = []
        n_rows = 0
        for text in self.texts:
            more = len(text.rows(self.keep))
            if shard and (n_rows + more) * self.row_bytes(d_model) > max_bytes:
                yield tuple(shard)
                shard, n_rows = [], 0
            shard.append(text)
            n_rows += more
        yield tuple(shard)

    @cached_property
    def tokens_digest(self) -> str:
        """Identity of the token ids and their roles. Stores that agree on it align."""
        return json_digest([[text.tokens.ids, text.tokens.roles] for text in self.texts])

    def digest(self, model: LanguageModel) -> str:
        """Identity of the store that this makes of a model; batch size and device do not count."""
        labels = [[text.id, text.family, text.answer] for text in self.texts]
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
            (number, text.id, text.family, text.answer, position, role)
            for number, text in enumerate(self.texts)
            for position, role in text.rows(self.keep)
        ]
        names = ("text", "id", "family", "answer", "position", "role")
        return pa.table(dict(zip(names, map(list, zip(*labelled, strict=True)), strict=True)))


def tokenize(tokenizer: ChatTokenizer, texts: Texts) -> Iterator[TokenizedText]:
    """Turn texts into token ids; a pair gives two texts, its question with either answer."""
    if isinstance(texts, str):
        raise DataError(f"texts is one string, {texts[:40]!r}; give a list of texts")
    if isinstance(texts, PairSet):
        for pair in texts:
            for kind, answer in (("careful", pair.careful), ("careless", pair.careless)):
                yield TokenizedText(tokenizer.exchange(pair.question, answer), pair.id, pair.family, kind)
    elif isinstance(texts, Corpus):
        for number, document in enumerate(texts.documents):
            yield TokenizedText(document.tokens, str(number), document.kind)
    else:
        for number, text in enumerate(texts):
            yield TokenizedText(tokenizer.text(text), str(number))


@runtime_checkable
class Digested(Protocol):
    """A value with an identity by content."""

    @property
    def digest(self) -> str:
        """Equal content, equal digest."""
        ...


def identity(value: Any) -> Any:
    """Plain data that identifies an edit by its content; a ``repr`` may hide a vector's values.

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
