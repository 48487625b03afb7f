"""Low-rank updates that write known vectors into the residual stream, and the adapter folders that hold them.

The matrix that writes a block's MLP output gets a low-rank update ``Σ d ⊗ a``. The reader ``a`` gives a number from the
matrix's input at every token, and that many times the vector ``d`` are added to the residual stream after the block.
Where the reader is constant, ablating ``d`` at that layer undoes the update, and nothing else is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.storage.files import write_atomically, write_text

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Written:
    """Vectors that one matrix writes, each as often as its reader gives.

    Attributes:
        readers: ``(k, d_in)``.
        vectors: ``(k, d_model)``, in activation units.
    """

    readers: Float[Tensor, "k d_in"]
    vectors: Float[Tensor, "k d_model"]

    def beside(self, other: Written) -> Written:
        """Both, written by the same matrix."""
        import torch

        readers, vectors = (self.readers, other.readers), (self.vectors, other.vectors)
        return Written(torch.cat(readers), torch.cat(vectors))

    def scaled(self, factor: float) -> Written:
        """The same readers with longer or shorter vectors."""
        return Written(self.readers, factor * self.vectors)


@dataclass(frozen=True, eq=False)
class PlantedAdapter:
    """A fine-tune that was planted and not trained.

    Attributes:
        written: the vectors by path of the matrix that writes them.
    """

    written: Mapping[str, Written]

    def scaled(self, factor: float) -> PlantedAdapter:
        """The same fine-tune, stronger or weaker."""
        return PlantedAdapter({module: part.scaled(factor) for module, part in self.written.items()})

    def with_further(self, other: PlantedAdapter) -> PlantedAdapter:
        """Both fine-tunes at once."""
        both = dict(self.written)
        for module, part in other.written.items():
            both[module] = both[module].beside(part) if module in both else part
        return PlantedAdapter(both)

    def write(self, folder: Path, base: Checkpoint) -> Checkpoint:
        """Write a PEFT folder, and return the checkpoint that it makes of the base.

        Args:
            folder: an adapter there is replaced.
            base: without an adapter.
        """
        from safetensors.torch import save_file

        rank = max(len(part.readers) for part in self.written.values())
        tensors = {}
        for module, part in self.written.items():
            key = f"base_model.model.{module}"
            tensors[f"{key}.lora_A.weight"] = _with_rows(part.readers, rank)
            tensors[f"{key}.lora_B.weight"] = _with_rows(part.vectors, rank).T.contiguous()
        write_atomically(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
        config = _config(rank, sorted(self.written), base)
        write_text(folder / "adapter_config.json", json.dumps(config, indent=2))
        return base.with_adapter(folder)


def _with_rows(matrix: Float[Tensor, "k d"], n: int) -> Float[Tensor, "n d"]:
    """A matrix with rows of zeros after its own: all matrices of an adapter have one rank."""
    import torch

    return torch.nn.functional.pad(matrix, (0, 0, 0, n - len(matrix))).contiguous()


def _config(rank: int, modules: list[str], base: Checkpoint) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "bias": "none",
        "target_modules": modules,
        "base_model_name_or_path": base.published,
    }
