"""Names for features: registered ones with their evidence, and spellings such as ``means@16``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.directions.direction import Direction
from personaprobe.features.directions.sources import SOURCES
from personaprobe.features.sae.catalog import find_dictionary
from personaprobe.features.sae.latents import Latents
from personaprobe.site import Site
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.toml_files import read_toml

REGISTRY = "features.toml"
NAMES = "latents"
"""The table of latents' names, by dictionary; no feature."""
_LATENTS = re.compile(r"sae:(?P<name>.+)/(?P<latents>\d+(?:,\d+)*)")
_SPELLED = re.compile(r"(?P<source>[a-z-]+)@(?P<layer>\d+)(?:\.(?P<stream>\w+))?(?::(?P<seed>\d+))?")


@dataclass(frozen=True)
class Recipe:
    """How to find a direction that is not on file: a source at a site."""

    source: str
    site: Site
    seed: int = 0


@dataclass(frozen=True)
class Feature:
    """Something that can be ablated: a direction or latents, and where the ablation acts by default.

    Attributes:
        name: what the user wrote.
        direction: the axis itself, how to find it in the organism under study, or latents of a dictionary.
        layers: ``"all"``, a list, or None for the direction's own.
        to: what the projection is set to.
        title: one line of meaning.
        strength: how far the ablation goes there; 1 reaches it.
        evidence: the sweep on discovery families that chose it, where it is registered.
    """

    name: str
    direction: Direction | Recipe | Latents
    layers: Literal["all"] | tuple[int, ...] | None = "all"
    to: Literal["reference", "zero"] = "reference"
    title: str = ""
    strength: float = 1.0
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)


def registered() -> dict[str, dict[str, Any]]:
    """The entries of ``features.toml``."""
    entries = read_toml(checkpoints_folder() / REGISTRY)
    return {name: entry for name, entry in entries.items() if name != NAMES}


def find_feature(name: str) -> Feature:
    """Read what a user calls a feature: a registered name, ``means@16``, ``random@16:3``, ``sae:NAME/812,77``, or a
    direction file.

    Raises:
        FeatureError: none of these; suggests the nearest.
    """
    entries = registered()
    if name in entries:
        return _from_registry(name, entries[name])
    if (latents := _LATENTS.fullmatch(name)) is not None:
        chosen = tuple(int(latent) for latent in latents["latents"].split(","))
        return Feature(name, Latents(find_dictionary(latents["name"]), chosen), layers=None, to="zero")
    if name.endswith(".safetensors") or "/" in name:
        return Feature(name, Direction.load(Path(name).expanduser()))
    if Path(name).suffix in (".pt", ".bin", ".pkl", ".pickle"):
        raise FeatureError(
            f"{name} is a pickle, which can run code, and is refused; save the direction as safetensors"
        )
    spelled = _SPELLED.fullmatch(name)
    if spelled is None or spelled["source"] not in SOURCES:
        spellings = [f"{source}@LAYER" for source in SOURCES]
        raise FeatureError(
            f"unknown feature {name!r}: {suggest(name, [*entries, *spellings])}, sae:NAME/LATENT, or a direction file"
        )
    site = Site.parse(f"{spelled['layer']}.{spelled['stream'] or 'resid_post'}")
    return Feature(name, Recipe(spelled["source"], site, int(spelled["seed"] or 0)))


def _from_registry(name: str, entry: dict[str, Any]) -> Feature:
    folder = checkpoints_folder()
    evidence = evidence_of(entry)
    if "sae" in entry:
        dictionary = find_dictionary(entry["sae"])
        if dictionary.digest != entry["dictionary"]:
            raise FeatureError(
                f"the dictionary {entry['sae']} is not the one {name!r} was registered with; restore it"
            )
        chosen = Latents(dictionary, tuple(entry["latents"]))
        return Feature(name, chosen, None, "zero", entry.get("title", ""), evidence=evidence)
    path = folder / entry["direction"]
    if path.is_file() and sha256_of(path) != entry["sha256"]:
        raise FeatureError(
            f"{path} is not the direction registered as {name!r} (sha256 differs); restore it from git"
        )
    layers = entry.get("layers", "all")
    return Feature(
        name,
        Direction.load(path),
        layers if layers == "all" else tuple(layers),
        entry.get("to", "reference"),
        entry.get("title", ""),
        entry.get("strength", 1.0),
        evidence,
    )


def evidence_of(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry of the registry was chosen on; empty where nothing is kept."""
    path = checkpoints_folder() / entry["evidence"] if "evidence" in entry else None
    return json.loads(path.read_text()) if path and path.exists() else {}
