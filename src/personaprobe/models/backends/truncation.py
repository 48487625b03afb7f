"""A Hugging Face model without its last blocks and final norm: its output is the residual stream after a given block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from personaprobe.errors import CheckpointError
from personaprobe.models.fused.module_patch import patched, truncation_patches


@contextmanager
def truncated(model: Any, layer: int) -> Iterator[None]:
    """Run only the blocks up to a layer, and no final norm.

    Args:
        model: from transformers; its decoder has ``layers`` and ``norm``, as Llama's.
        layer: the last block that is run.

    Raises:
        CheckpointError: the decoder has no such modules.
    """
    decoder = model.get_decoder()
    if not {"layers", "norm"} <= dict(decoder.named_children()).keys():
        raise CheckpointError(
            f"{type(model).__name__} cannot be truncated: its decoder has no children layers and norm; "
            "give a model with Llama's module names"
        )
    with patched(truncation_patches(decoder, layer + 1)):
        yield
