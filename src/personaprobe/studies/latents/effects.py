"""Causal effects of single latents, as searches of registered features measured them."""

from __future__ import annotations

from typing import Any

from personaprobe.features.registry.registry import read_evidence, registered
from personaprobe.features.sae.dictionary import Dictionary


def registered_effects(dictionary: Dictionary) -> list[dict[str, Any]]:
    """The effects of a dictionary's latents on discovery questions, as plain data.

    Args:
        dictionary: recognised by its content, whatever its name.

    Returns:
        One entry per latent with ``latents``, ``removed``, ``induced``, ``controls`` and ``perplexity_ratio``.
    """
    return [
        single
        for entry in registered().values()
        if isinstance(entry, dict) and entry.get("dictionary") == dictionary.digest
        for single in read_evidence(entry).get("singles", [])
    ]
