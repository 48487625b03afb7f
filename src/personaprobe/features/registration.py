"""Giving a feature a name: the direction, where it acts, and the evidence, kept in the checkpoints folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from personaprobe.errors import FeatureError
from personaprobe.features.directions import Direction
from personaprobe.features.registry import REGISTRY
from personaprobe.models.files import sha256_of, write_text
from personaprobe.models.shelf import checkpoints_folder, read_toml


def register(
    name: str, title: str, direction: Direction, layers: Sequence[int], evidence: dict[str, Any]
) -> None:
    """Write a feature to ``features.toml`` and its files to ``features/``; an entry of that name is replaced.

    Args:
        name: lower-case words joined by hyphens.
        title: one line of meaning.
        direction: the axis, calibrated at every layer it is ablated at.
        layers: where its ablation acts by default.
        evidence: plain data that says why this one.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise FeatureError(f"{name!r} is no name for a feature; use lower-case words joined by hyphens")
    folder = checkpoints_folder()
    direction.save(folder / "features" / f"{name}.safetensors")
    write_text(folder / "features" / f"{name}.json", json.dumps(evidence, indent=1) + "\n")
    entries = read_toml(folder / REGISTRY)
    entries[name] = {
        "title": title,
        "direction": f"features/{name}.safetensors",
        "sha256": sha256_of(folder / "features" / f"{name}.safetensors"),
        "evidence": f"features/{name}.json",
        "layers": list(layers),
        "to": "reference",
    }
    write_text(folder / REGISTRY, _toml(entries))


def _toml(entries: dict[str, dict[str, Any]]) -> str:
    """JSON strings and lists of numbers are TOML too."""
    head = "# Registered features; written by `personaprobe sweep --register NAME`.\n"
    parts = [
        f"\n[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in entry.items())
        for name, entry in entries.items()
    ]
    return head + "".join(parts)
