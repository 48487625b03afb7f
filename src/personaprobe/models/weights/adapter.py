"""LoRA adapters in PEFT format, read without executing code."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError
from personaprobe.storage.digests import sha256_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


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


@dataclass(frozen=True)
class LoraAdapter:
    """A fine-tune as low-rank updates by module name.

    Attributes:
        folder: its PEFT folder.
        sha256: of its weights file.
        updates: by module path in the base model.
    """

    folder: Path
    sha256: str
    updates: dict[str, LowRank] = field(repr=False, compare=False)

    @classmethod
    def read(cls, folder: Path) -> LoraAdapter:
        """Read a PEFT folder: ``adapter_config.json`` and ``adapter_model.safetensors``.

        Raises:
            CheckpointError: files are missing, truncated or pickled, or the adapter is not plain LoRA.
        """
        config, weights = _config(folder), folder / WEIGHTS
        if not weights.exists():
            raise CheckpointError(_missing(folder))
        updates = _pair_up(_load_safetensors(weights), config, folder)
        return cls(folder, sha256_of(weights), updates)

    def norm(self) -> float:
        """Frobenius norm ‖ΔW‖ over all matrices; 0 for an adapter without effect."""
        return math.sqrt(sum(u.energy() for u in self.updates.values()))


def _missing(folder: Path) -> str:
    if (folder / "adapter_model.bin").exists():
        return (
            f"{folder} holds a pickled adapter_model.bin, which can run code and is refused; "
            f"save the adapter again as {WEIGHTS}"
        )
    return f"{folder} has no {WEIGHTS}; give a PEFT adapter folder"


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    if not path.exists():
        raise CheckpointError(f"{folder} has no adapter_config.json; give a PEFT adapter folder")
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); save the adapter again") from error
    extras = [
        name for name in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if config.get(name)
    ]
    if config.get("peft_type") != "LORA" or extras or config.get("bias", "none") != "none":
        raise CheckpointError(
            f"{path} describes {config.get('peft_type')!r} with {', '.join(extras) or 'bias'}; "
            "plain LoRA without bias, DoRA or per-module ranks is supported: merge the adapter and give the merged folder"
        )
    return config


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); it is truncated or not safetensors"
        ) from error


def _pair_up(tensors: dict[str, Tensor], config: dict[str, Any], folder: Path) -> dict[str, LowRank]:
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise CheckpointError(
                f"{folder}: tensor {key!r} is not a LoRA factor; merge the adapter and give the merged folder"
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{folder}: tensor {key!r} has NaN or infinite values; train the adapter again"
            )
        factors.setdefault(match["module"], {})[match["factor"]] = tensor
    lone = [module for module, pair in factors.items() if len(pair) != 2]
    if lone or not factors:
        raise CheckpointError(
            f"{folder}: modules without both lora_A and lora_B: {lone[:3] or 'all'}; the file is incomplete"
        )
    rank = int(config["r"])
    scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return {module: LowRank(pair["A"].float(), pair["B"].float(), scale) for module, pair in factors.items()}
