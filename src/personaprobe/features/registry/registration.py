"""Giving a feature a name: the direction, where it acts, and the evidence, kept in the checkpoints folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.registry.registry import NAMES, REGISTRY
from personaprobe.features.sae.latents import Latents
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.files import write_text
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.toml_files import write_entry

HEADING = "Registered features; written by `personaprobe sweep` and `personaprobe features search`."
"""The first line of a new registry."""


def register(
    name: str,
    title: str,
    direction: Direction,
    layers: Sequence[int],
    evidence: dict[str, Any],
    strength: float = 1.0,
) -> None:
    """Write a feature to ``features.toml`` and its files to ``features/``; an entry of that name is replaced.

    Args:
        name: lower-case words joined by hyphens.
        title: one line of meaning.
        direction: the axis, calibrated at every layer it is ablated at.
        layers: where its ablation acts by default.
        evidence: plain data that says why this one.
        strength: how far its ablation goes; 1 reaches the reference.
    """
    refuse_misnamed(name)
    folder = checkpoints_folder()
    direction.save(folder / "features" / f"{name}.safetensors")
    fields = {
        "direction": f"features/{name}.safetensors",
        "sha256": sha256_of(folder / "features" / f"{name}.safetensors"),
        "layers": list(layers),
        "to": "reference",
        "strength": strength,
    }
    _enter(name, title, fields, evidence)


def register_latents(name: str, title: str, latents: Latents, evidence: dict[str, Any]) -> None:
    """Write latents of a shipped dictionary to ``features.toml``; an entry of that name is replaced.

    Args:
        name: lower-case words joined by hyphens.
        title: one line of meaning.
        latents: of a dictionary that others can find by its name.
        evidence: plain data that says why these.
    """
    refuse_misnamed(name)
    dictionary = latents.dictionary
    fields = {"sae": dictionary.name, "dictionary": dictionary.digest, "latents": list(latents.latents)}
    _enter(name, title, fields, evidence)


def refuse_misnamed(name: str) -> None:
    """Raise where a name is not lower-case words joined by hyphens."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or name == NAMES:
        raise FeatureError(f"{name!r} is no name for a feature; use lower-case words joined by hyphens")


def _enter(name: str, title: str, fields: dict[str, Any], evidence: dict[str, Any]) -> None:
    folder = checkpoints_folder()
    text = json.dumps(_finite(evidence), indent=1, allow_nan=False)
    write_text(folder / "features" / f"{name}.json", text + "\n")
    entry = {"title": title, **fields, "evidence": f"features/{name}.json"}
    write_entry(folder / REGISTRY, [name], entry, HEADING)


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
