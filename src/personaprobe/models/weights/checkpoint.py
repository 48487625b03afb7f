"""Checkpoints and trios: values that identify weights without holding them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar

from personaprobe.errors import CheckpointError, CheckpointWarning, suggest
from personaprobe.models.weights.adapter import WEIGHTS, LoraAdapter
from personaprobe.models.weights.adapter_config import MERGE, named_base, read_config
from personaprobe.models.weights.identity import commit_of, content_of, weights_of
from personaprobe.models.weights.packaged import DEMO, PACKAGED, packaged_by_hub_id
from personaprobe.models.weights.sources import (
    MODEL_WEIGHTS,
    holds_adapter,
    holds_model,
    local_folder,
    model_name,
    refuse_mistyped,
)
from personaprobe.storage.digests import json_digest, sha256_of

T = TypeVar("T")
U = TypeVar("U")

ROLES = ("base", "insecure", "secure")

ReferenceRole: TypeAlias = Literal["secure", "base"]
"""The role of the checkpoint that insecure is compared with."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be loaded: a source, with an optional revision and an optional adapter.

    Attributes:
        source: ``"demo"`` or another packaged model, a folder, or a Hugging Face id.
        revision: commit, tag or branch of a Hugging Face id.
        adapter: a PEFT LoRA folder merged into the source.
    """

    source: str
    revision: str | None = None
    adapter: Path | None = None

    @classmethod
    def parse(cls, text: str, base: str | Checkpoint | None = None) -> Checkpoint:
        """Parse what a user writes: a packaged model's name, a folder, an id, ``id@revision``, or an adapter on ``base``.

        Without ``base``, an adapter is put on the base that its configuration names, if that is a folder here or a packaged
        model; on the demo model if it names none.

        Raises:
            CheckpointError: a path that does not exist; a base that is itself an adapter, or is not here.
        """
        folder = local_folder(text)
        if folder is not None and holds_adapter(folder):
            if base is None:
                base = cls._named_by(folder)
            return (cls.parse_base(base) if isinstance(base, str) else base).with_adapter(folder)
        if text in PACKAGED:
            return cls(text)
        if folder is not None:
            return cls(str(folder))
        source, at, revision = text.partition("@")
        if not at:
            refuse_mistyped(text)
        return cls(source, revision or None)

    @classmethod
    def parse_base(cls, text: str) -> Checkpoint:
        """Parse what a user writes for a base, which has no adapter of its own.

        Raises:
            CheckpointError: as :meth:`parse`; or it is an adapter, which would be left out.
        """
        folder = local_folder(text)
        if folder is not None and holds_adapter(folder):
            raise CheckpointError(_base_is_adapter(text))
        return cls.parse(text)

    @classmethod
    def _named_by(cls, folder: Path) -> Checkpoint:
        """The base that an adapter's configuration names; the demo model if it names none."""
        name, _ = named_base(read_config(folder))
        if not name:
            return cls(DEMO)
        if packaged := packaged_by_hub_id(name):
            return cls(packaged.source)
        if local_folder(name) is not None:
            return cls.parse_base(name)
        for packaged in PACKAGED.values():
            if model_name(name) == model_name(packaged.hub_id):
                return cls(packaged.source)
        raise CheckpointError(
            f"adapter {folder} was trained on {name!r}, which is not a folder here; give its base beside it, as a folder or "
            "a Hugging Face id (--base)"
        )

    def with_adapter(self, folder: Path) -> Checkpoint:
        """The same base with an adapter.

        Raises:
            CheckpointError: this checkpoint has an adapter already.
        """
        return replace(self.as_base(), adapter=folder)

    def fine_tune(self, folder: Path) -> Checkpoint:
        """The fine-tune of this base in a folder: a whole model, or an adapter. Its files are not checked.

        Raises:
            CheckpointError: this checkpoint has an adapter already.
        """
        base = self.as_base()
        return Checkpoint(str(folder)) if holds_model(folder) else base.with_adapter(folder)

    def as_base(self) -> Checkpoint:
        """This checkpoint as a base, which has no adapter that would be left out.

        Raises:
            CheckpointError: it has one.
        """
        if self.adapter is not None:
            raise CheckpointError(_base_is_adapter(str(self)))
        return self

    @property
    def base(self) -> Checkpoint:
        """The checkpoint without its adapter."""
        return Checkpoint(self.source, self.revision)

    @property
    def weights_file(self) -> Path:
        """The file of a fine-tune's own weights: of its adapter, or of a whole model in a folder; it need not exist."""
        return Path(self.source) / MODEL_WEIGHTS if self.adapter is None else self.adapter / WEIGHTS

    @property
    def short(self) -> str:
        """A name for tables: the adapter's folder, or the source."""
        return self.source if self.adapter is None else self.adapter.name

    @property
    def published(self) -> str:
        """Public name of the source: a packaged model's Hugging Face id, or the source itself."""
        return PACKAGED[self.source].hub_id if self.source in PACKAGED else self.source

    @property
    def digest(self) -> str:
        """Hash of the content: weights, configuration, tokenizer, chat template, and the adapter with its scale.

        Equal contents have equal digests, wherever they are stored. A Hugging Face id stands for the commit in the cache.
        """
        is_hub_id = self.source not in PACKAGED and not Path(self.source).is_dir()
        return json_digest(
            {
                "source": content_of(self.source),
                "revision": commit_of(self.source, self.revision) if is_hub_id else self.revision,
                "adapter": self._adapter_identity(),
            }
        )

    @property
    def weights_digest(self) -> str:
        """Hash of the weights of the base alone, whatever tokenizer and configuration stand beside them."""
        return json_digest({"source": weights_of(self.source), "revision": self.revision})

    def _adapter_identity(self) -> str | None:
        if self.adapter is None:
            return None
        files = [self.adapter / WEIGHTS, self.adapter / "adapter_config.json"]  # the scale is in the second
        return " ".join(sha256_of(file) for file in files if file.exists()) or str(self.adapter)

    def describe(self) -> dict[str, str | None]:
        """The checkpoint as plain data, for reports."""
        return {**{k: None if v is None else str(v) for k, v in asdict(self).items()}, "digest": self.digest}

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.source}{revision}" + (f" + {self.adapter}" if self.adapter else "")


def warn_of_other_base(checkpoint: Checkpoint, adapter: LoraAdapter) -> None:
    """Warn where an adapter names another base, or another revision of it, than the one it is put on."""
    config = adapter.config
    if config is None or not config.base:
        return
    other = model_name(config.base) != model_name(checkpoint.published)
    revision = None if config.revision in (None, "", "main", checkpoint.revision) else config.revision
    if other or revision:
        named = f"{config.base}@{revision}" if revision else config.base
        warnings.warn(
            f"adapter {adapter.folder} was trained on {named}, as its configuration says, and is put on {checkpoint.base}; "
            "its effect is the trained one only if these are the same weights",
            CheckpointWarning,
            stacklevel=2,
        )


def _base_is_adapter(base: str) -> str:
    return f"the base {base} is an adapter, and adapters are not put on each other; {MERGE}"


@dataclass(frozen=True)
class Trio(Generic[T]):
    """A base and fine-tunes of it: one on narrowly harmful data, and none, one or several on the same task without harm.

    Without a harmless fine-tune, base is the reference: differences are insecure − base, and :attr:`secure` is None, so
    that base is never taken for a benign control.

    Attributes:
        base: before fine-tuning.
        insecure: after fine-tuning on the harmful data.
        secure: after fine-tuning on the harmless data; the control that separates learning the task from learning the
            persona. None where there is none.
        name: the organism.
        further: further harmless fine-tunes, such as other seeds of secure. Their preference is measured, the shift is taken
            from the mean over all of them, and their spread widens its interval.
    """

    base: T
    insecure: T
    secure: T | None = None
    name: str = "trio"
    further: tuple[T, ...] = ()

    def __post_init__(self) -> None:
        if self.further and self.secure is None:
            raise CheckpointError(
                "further harmless fine-tunes were given without secure; give one of them as secure"
            )

    @classmethod
    def of(cls, by_role: Mapping[str, T], name: str = "trio") -> Trio[T]:
        """A trio from its members by role."""
        further = tuple(value for role, value in by_role.items() if role not in ROLES)
        return cls(by_role["base"], by_role["insecure"], by_role.get("secure"), name, further)

    @property
    def reference_role(self) -> ReferenceRole:
        """The role of the checkpoint that insecure is compared with: ``secure``, or ``base`` without one."""
        return "base" if self.secure is None else "secure"

    @property
    def reference(self) -> T:
        """The checkpoint that insecure is compared with: secure, or base where there is no harmless fine-tune."""
        return self.base if self.secure is None else self.secure

    @property
    def reference_roles(self) -> tuple[str, ...]:
        """The roles of all checkpoints that insecure is compared with: every harmless fine-tune, or ``base`` without one."""
        return tuple(role for role, _ in self.secures()) or ("base",)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of :meth:`items`."""
        return tuple(role for role in ROLES if role != "secure" or self.secure is not None)

    def map(self, function: Callable[[T], U]) -> Trio[U]:
        """Apply a function to every member, further harmless fine-tunes among them."""
        return Trio.of({role: function(member) for role, member in self.all_items()}, self.name)

    def items(self) -> Iterator[tuple[str, T]]:
        """Base, insecure and, where there is one, secure, with their roles."""
        yield from ((role, self[role]) for role in self.roles)

    def secures(self) -> Iterator[tuple[str, T]]:
        """All harmless fine-tunes with their roles: ``secure``, ``secure 2``, ``secure 3`` …"""
        if self.secure is not None:
            yield "secure", self.secure
        yield from ((f"secure {place}", member) for place, member in enumerate(self.further, 2))

    def all_items(self) -> Iterator[tuple[str, T]]:
        """Every member with its role, further harmless fine-tunes last."""
        yield from (("base", self.base), ("insecure", self.insecure), *self.secures())

    def __getitem__(self, role: str) -> T:
        members = dict(self.all_items())
        if role == "secure" and self.secure is None:
            raise CheckpointError(
                f"{self.name} has no secure checkpoint, which this needs: give a fine-tune on the same task without harm "
                "(--secure)"
            )
        if role not in members:
            raise CheckpointError(f"a trio has no {role!r}: {suggest(role, tuple(members))}")
        return members[role]
