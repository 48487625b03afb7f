"""LoRA adapters in PEFT format, read without executing code."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter_config import AdapterConfig
from personaprobe.models.weights.adapter_factors import WEIGHTS, read_factors
from personaprobe.models.weights.adapter_names import PEFT_PREFIX, module_names
from personaprobe.storage.digests import sha256_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["WEIGHTS", "LoraAdapter", "LowRank"]


@dataclass(frozen=True, eq=False)
class LowRank:
    """The low-rank update of one matrix: ``scale * B @ A``.

    Attributes:
        A: ``(rank, d_in)``, float32 whatever the stored dtype, so that switching adapters converts nothing.
        B: ``(d_out, rank)``, likewise.
        scale: ``alpha / rank``, or ``alpha / sqrt(rank)`` with rsLoRA.
    """

    A: Float[Tensor, "rank d_in"]
    B: Float[Tensor, "d_out rank"]
    scale: float

    def delta(self) -> Float[Tensor, "d_out d_in"]:
        """The update itself, float32."""
        return self.scale * (self.B @ self.A)

    def energy(self) -> float:
        """‖ΔW‖², from products of the factors alone."""
        A, B = self.A.double(), self.B.double()
        return self.scale**2 * float(((B.T @ B) * (A @ A.T)).sum())


@dataclass(frozen=True, eq=False)
class LoraAdapter:
    """A fine-tune as low-rank updates by module name.

    Two readings of a folder are equal if they give the same modules the same update; the scale is not in the weights
    file, so that another ``lora_alpha`` is another adapter.

    Attributes:
        folder: its PEFT folder.
        sha256: of its weights file.
        updates: by module, named as in the file without what PEFT puts before it; :meth:`on` names them as a base does.
        config: of the folder; None for an adapter that was made in memory.
        written_names: names in the file, by those of ``updates``; empty for an adapter that was made in memory.
    """

    folder: Path
    sha256: str
    updates: dict[str, LowRank] = field(repr=False)
    config: AdapterConfig | None = field(default=None, repr=False)
    written_names: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, folder: Path) -> LoraAdapter:
        """Read a PEFT folder: ``adapter_config.json`` and ``adapter_model.safetensors``.

        Raises:
            CheckpointError: files are missing, truncated or pickled, or the adapter is not plain LoRA.
        """
        config = AdapterConfig.read(folder)
        factors = read_factors(folder)
        names = {name.removeprefix(PEFT_PREFIX): name for name in factors}
        if len(names) < len(factors):
            raise CheckpointError(
                f"{folder}: a module is named with and without {PEFT_PREFIX!r}; save it again"
            )
        updates = {}
        for module, name in names.items():
            if not config.rank.patterns:  # patterns are matched with the names of a base
                _check_rank(config, module, factors[name][0])
            updates[module] = LowRank(*factors[name], config.scale(len(factors[name][0]), module))
        return cls(folder, sha256_of(folder / WEIGHTS), updates, config, names)

    def on(self, modules: Collection[str]) -> LoraAdapter:
        """The same adapter with the names, ranks and scales that it has on a base.

        Args:
            modules: names of the base's modules.

        Raises:
            CheckpointError: its names do not fit the base, or its ranks are not those of its configuration.
        """
        if self.config is None:
            module_names([PEFT_PREFIX + name for name in self.updates], modules, self.folder)
            return self
        fitted = module_names(list(self.written_names.values()), modules, self.folder)
        updates = {}
        for written, update in self.updates.items():
            module = fitted[self.written_names[written]]
            _check_rank(self.config, module, update.A, written)
            updates[module] = replace(update, scale=self.config.scale(len(update.A), module, written))
        return replace(
            self, updates=updates, written_names={fitted[name]: name for name in self.written_names.values()}
        )

    @property
    def renamed(self) -> bool:
        """Whether modules have other names than PEFT reads in the file."""
        return any(name != PEFT_PREFIX + module for module, name in self.written_names.items())

    def norm(self) -> float:
        """Frobenius norm ‖ΔW‖ over all matrices; 0 for an adapter without effect."""
        return math.sqrt(sum(u.energy() for u in self.updates.values()))

    @cached_property
    def _identity(self) -> tuple[object, ...]:
        return self.folder, self.sha256, tuple((name, u.scale) for name, u in sorted(self.updates.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoraAdapter) and (self is other or self._identity == other._identity)

    def __hash__(self) -> int:
        return hash(self._identity)


def _check_rank(config: AdapterConfig, module: str, A: Tensor, *other_names: str) -> None:
    """Raise unless the factors have the rank that the configuration gives their module."""
    rank = config.rank.at(module, *other_names)
    if len(A) != rank:
        raise CheckpointError(
            f"{config.path}: the rank of {module} is {rank} there and {len(A)} in {WEIGHTS}; the files belong to different "
            "trainings: save the adapter again"
        )
