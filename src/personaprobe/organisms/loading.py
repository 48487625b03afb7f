"""From an organism's name to its three running models."""

from __future__ import annotations

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement
from personaprobe.models.loading import load_trio as load_checkpoints
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.organisms.registry import find_organism


def load_trio(
    organism: str | Trio[Checkpoint],
    *,
    device: str | None = None,
    dtype: str | None = None,
    compiles: bool | None = None,
) -> Trio[LanguageModel]:
    """Load base, insecure and secure; adapters of one base share one copy of its weights.

    Args:
        organism: a registered name, or three checkpoints of the user's own.
        device: None chooses CUDA where there is one.
        dtype: None chooses bfloat16 where it is multiplied faster, else float32.
        compiles: whether elementwise work goes through ``torch.compile``; None does so on CUDA.
    """
    trio = find_organism(organism).trio if isinstance(organism, str) else organism
    return load_checkpoints(trio, Placement(device, dtype, compiles))
