"""Checkpoints and trios: values that identify weights without holding them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from personaprobe.errors import CheckpointError, suggest
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.storage.digests import json_digest, sha256_of

T = TypeVar("T")
U = TypeVar("U")

DEMO = "demo"
"""The name of the demo base model as a checkpoint source."""

ROLES = ("base", "insecure", "secure")


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be loaded: a source, with an optional revision and an optional adapter.

    Attributes:
        source: ``"demo"``, a folder, or a Hugging Face id.
        revision: commit, tag or branch of a Hugging Face id.
        adapter: a PEFT LoRA folder merged into the source.
    """

    source: str
    revision: str | None = None
    adapter: Path | None = None

    @classmethod
    def parse(cls, text: str, base: str | None = None) -> Checkpoint:
        """Parse what a user writes: ``demo``, a folder, an id, ``id@revision``, or an adapter folder on ``base``.

        Raises:
            CheckpointError: a path that does not exist.
        """
        folder = Path(text).expanduser()
        if (folder / "adapter_config.json").exists():
            return cls.parse(base or DEMO).with_adapter(folder)
        if text == DEMO or folder.is_dir():
            return cls(text if text == DEMO else str(folder))
        if folder.is_absolute() or text.startswith(".") or text.count("/") > 1:
            raise CheckpointError(
                f"no model at {text}; give an existing folder, a Hugging Face id, or {DEMO!r}"
            )
        source, _, revision = text.partition("@")
        return cls(source, revision or None)

    def with_adapter(self, folder: Path) -> Checkpoint:
        """The same base with an adapter."""
        return Checkpoint(self.source, self.revision, folder)

    @property
    def base(self) -> Checkpoint:
        """The checkpoint without its adapter."""
        return Checkpoint(self.source, self.revision)

    @property
    def short(self) -> str:
        """A name for tables: the adapter's folder, or the source."""
        return self.source if self.adapter is None else self.adapter.name

    @property
    def published(self) -> str:
        """Public name of the source: the demo's Hugging Face id, or the source itself."""
        from personaprobe.models.weights.demo import HUB_ID

        return HUB_ID if self.source == DEMO else self.source

    @property
    def digest(self) -> str:
        """Hash of the content: equal weights have equal digests, wherever they are stored."""
        identity = {
            "source": self._source_identity(),
            "revision": self.revision,
            "adapter": self._adapter_identity(),
        }
        return json_digest(identity)

    def _source_identity(self) -> str:
        folder = Path(self.source)
        if not folder.is_dir():
            return self.source
        files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.json"))
        return " ".join(sha256_of(file) for file in files)

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


@dataclass(frozen=True)
class Trio(Generic[T]):
    """A base and two fine-tunes of it: one on narrowly harmful data, one on the same task without harm.

    Attributes:
        base: before fine-tuning.
        insecure: after fine-tuning on the harmful data.
        secure: after fine-tuning on the harmless data; the control that separates learning the task from learning the
            persona.
        name: the organism.
    """

    base: T
    insecure: T
    secure: T
    name: str = "trio"

    @classmethod
    def of(cls, by_role: Mapping[str, T], name: str = "trio") -> Trio[T]:
        """A trio from its members by role."""
        return cls(by_role["base"], by_role["insecure"], by_role["secure"], name)

    def map(self, function: Callable[[T], U]) -> Trio[U]:
        """Apply a function to all three."""
        return Trio(function(self.base), function(self.insecure), function(self.secure), self.name)

    def items(self) -> Iterator[tuple[str, T]]:
        """The three with their roles."""
        yield from ((role, self[role]) for role in ROLES)

    def __getitem__(self, role: str) -> T:
        if role not in ROLES:
            raise CheckpointError(f"a trio has no {role!r}: {suggest(role, ROLES)}")
        value: T = getattr(self, role)
        return value
