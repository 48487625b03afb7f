"""LoRA adapters in PEFT format: read safely, merged in place, proven to be applied."""

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
    from torch import Tensor, nn

WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


@dataclass(frozen=True, eq=False)
class LowRank:
    """The update of one matrix: ``scale * B @ A``.

    Attributes:
        A: ``(rank, d_in)``, float32 whatever it was stored in, so that it is not converted whenever adapters are switched.
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
        folder: where it was read from.
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
            CheckpointError: files missing, truncated or pickled; a kind of adapter other than plain LoRA.
        """
        config, weights = _config(folder), folder / WEIGHTS
        if not weights.exists():
            raise CheckpointError(_missing(folder))
        updates = _pair_up(_load_safetensors(weights), config, folder)
        return cls(folder, sha256_of(weights), updates)

    def norm(self) -> float:
        """Frobenius norm ‖ΔW‖ over all matrices; 0 would mean an adapter that changes nothing."""
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


class Wardrobe:
    """Switches adapters on one copy of the base weights.

    The pristine values of every matrix ever adapted are kept, in the dtype they were stored in, so that taking an
    adapter off restores the base bit for bit.
    """

    def __init__(self, model: nn.Module, stored_dtype: Any) -> None:
        self._model = model
        self._stored_dtype = stored_dtype
        self._pristine: dict[str, Tensor] = {}
        self._modules: dict[str, Any] = {}
        self._fitting: set[str] = set()  # adapters proven to fit
        self.worn: LoraAdapter | None = None

    def wear(self, adapter: LoraAdapter | None) -> None:
        """Merge ``adapter`` into pristine weights, or restore them; nothing happens when it is already worn."""
        if adapter == self.worn:
            return
        if adapter is not None and adapter.sha256 not in self._fitting:
            self._check(adapter)
            self._fitting.add(adapter.sha256)
        self.worn = None
        updates = {} if adapter is None else adapter.updates
        for name in updates:
            if name not in self._pristine:
                self._pristine[name] = self._parameter(name).detach().to(self._stored_dtype, copy=True)
        for name, pristine in self._pristine.items():
            if name in updates:
                self._merge(name, pristine, updates[name])
            else:
                self._parameter(name).data.copy_(pristine)
        self.worn = adapter

    def _merge(self, name: str, pristine: Tensor, update: LowRank) -> None:
        """Set a matrix to the sum of its pristine values and an update, which is rounded once."""
        import torch

        weight = self._parameter(name).data
        A, B = update.A.to(weight.device), update.B.to(weight.device)
        if self._is_transposed(name):
            A, B = B.T, A.T
        # in place: the update by itself is never written down
        if weight.dtype == torch.float32:
            weight.copy_(pristine).addmm_(B, A, alpha=update.scale)
        else:
            weight.copy_(pristine.to(torch.float32, copy=True).addmm_(B, A, alpha=update.scale))

    def _module(self, name: str) -> Any:
        """A module by its name; looking a name up takes as long as copying a small matrix."""
        if name not in self._modules:
            self._modules[name] = self._model.get_submodule(name)
        return self._modules[name]

    def _parameter(self, name: str) -> nn.Parameter:
        parameter: nn.Parameter = self._module(name).weight
        return parameter

    def _is_transposed(self, name: str) -> bool:
        """GPT-2 stores its linear maps as ``Conv1D``, input dimension first."""
        return type(self._module(name)).__name__ == "Conv1D"

    def _check(self, adapter: LoraAdapter) -> None:
        """Prove that every tensor has a place, and that the update is not nothing."""
        for name, update in adapter.updates.items():
            try:
                shape = tuple(self._parameter(name).shape)
            except AttributeError as error:
                raise CheckpointError(_stranger(adapter, f"the base has no module {name!r}")) from error
            if self._is_transposed(name):
                shape = shape[::-1]
            wanted = (update.B.shape[0], update.A.shape[1])
            if shape != wanted:
                raise CheckpointError(
                    _stranger(adapter, f"{name} is {shape} in the base and {wanted} in the adapter")
                )
        if adapter.norm() == 0:
            raise CheckpointError(
                f"adapter {adapter.folder} changes nothing (‖ΔW‖ = 0): its B matrices are zero; it was saved untrained"
            )


def _stranger(adapter: LoraAdapter, why: str) -> str:
    return f"adapter {adapter.folder} was made for another base: {why}; give the base it was trained on"
