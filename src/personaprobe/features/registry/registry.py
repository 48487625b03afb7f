"""The entries of ``features.toml``: registered features as plain data, each with the evidence it was registered on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from personaprobe.errors import FeatureError
from personaprobe.storage.files import write_text
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.locks import locked
from personaprobe.storage.paths import is_file
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.readers.json_files import read_json_object
from personaprobe.storage.toml_files import is_entry_name, read_toml, write_entry

REGISTRY = "features.toml"
NAMES = "latents"
"""The table of latents' names, by dictionary; no feature has this name."""

HEADING = "Registered features; written by `personaprobe sweep` and `personaprobe features search`."
"""The first line of a new registry."""


def registered() -> dict[str, Any]:
    """The entries of ``features.toml`` by the feature's name, as they stand there.

    One that cannot be used is among them, so that a list can say what is wrong with it; see :func:`entry_fields`.
    """
    entries = read_toml(checkpoints_folder() / REGISTRY)
    return {name: entry for name, entry in entries.items() if name != NAMES}


def entry_fields(name: str, entry: Any) -> Fields:
    """The fields of one entry.

    Raises:
        FeatureError: it is no table.
    """
    return Fields.of(entry, f"{REGISTRY}, {name}", FeatureError)


def read_evidence(entry: Any) -> dict[str, Any]:
    """The evidence that a feature was registered on; empty where none is on file.

    Raises:
        FeatureError: the entry is no table, or the evidence is no JSON object.
    """
    name = entry_fields("evidence", entry).text("evidence", None)
    path = None if name is None else checkpoints_folder() / name
    if path is None or not is_file(path):
        return {}
    return read_json_object(path, FeatureError, advice="restore the file, or remove evidence from the entry")


def refuse_misnamed(name: str) -> None:
    """Raise where a name is not lower-case words joined by hyphens."""
    if not is_entry_name(name) or name == NAMES:
        raise FeatureError(f"{name!r} is no name for a feature; use lower-case words joined by hyphens")


def file_of(name: str) -> Path:
    """The file, relative to the checkpoints folder, that holds the tensors of a registered feature."""
    return Path("features") / f"{name}.safetensors"


def write_feature(name: str, title: str, fields: dict[str, Any], evidence: dict[str, Any]) -> None:
    """Write an entry to ``features.toml`` and its evidence to ``features/``; an entry of that name is replaced.

    Args:
        name: lower-case words joined by hyphens.
        title: one line of meaning.
        fields: plain data by which the kind of target reads it again.
        evidence: plain data that says why this feature was chosen.
    """
    refuse_misnamed(name)
    folder = checkpoints_folder()
    text = json.dumps(_finite(evidence), indent=1, allow_nan=False)
    entry = {"title": title, **fields, "evidence": f"features/{name}.json"}
    with locked(
        folder / REGISTRY
    ):  # the evidence on file is that of the entry, whoever else writes this name
        write_text(folder / "features" / f"{name}.json", text + "\n")
        write_entry(folder / REGISTRY, [name], entry, HEADING)


def _finite(value: Any) -> Any:
    """The same plain data with None in place of NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
