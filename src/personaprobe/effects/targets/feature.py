"""Features by name: registered ones, and spellings such as ``means@16`` or ``sae:NAME/812,77``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.latents import LatentsTarget
from personaprobe.effects.targets.recipe import RecipeTarget
from personaprobe.effects.targets.target import Target
from personaprobe.errors import FeatureError, shortened, suggest
from personaprobe.features.directions.direction import Direction
from personaprobe.features.directions.sources import SOURCES
from personaprobe.features.registry.registry import (
    REGISTRY,
    entry_fields,
    read_evidence,
    refuse_misnamed,
    registered,
    write_feature,
)
from personaprobe.plugins import Registry
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.locks import locked

TARGETS: Registry[type[Target]] = Registry(
    "kind of target",
    "personaprobe.targets",
    {"latents": LatentsTarget, "direction": DirectionTarget, "recipe": RecipeTarget},
    FeatureError,
)
"""The kinds of target. Other packages add theirs with :func:`register_target`, or by an entry point of the group
``personaprobe.targets``. The first kind that understands a name or an entry reads it."""


@dataclass(frozen=True)
class Feature:
    """A named hypothesis about what carries the persona.

    Attributes:
        name: as the user wrote it.
        target: the thing it stands for.
        title: one line of meaning.
        evidence: the sweep or search that chose it, where it is registered.
    """

    name: str
    target: Target
    title: str = ""
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)


def find_feature(name: str) -> Feature:
    """Find a feature by the name that a user writes.

    Args:
        name: a registered name, ``means@16``, ``random@16:3``, ``sae:NAME/812,77``, a direction file, or a spelling of a
            kind of target that another package added.

    Raises:
        FeatureError: none of these; the message suggests the nearest.
    """
    entries = registered()
    if name in entries:
        return _from_entry(name, entries[name])
    target = next((target for kind in _kinds() if (target := kind.parse(name)) is not None), None)
    if target is None:
        spellings = [f"{source}@LAYER" for source in SOURCES]
        raise FeatureError(
            f"unknown feature {shortened(name)}: {suggest(name, [*entries, *spellings])}, sae:NAME/LATENT, or a direction "
            "file"
        )
    return Feature(name, target)


def as_feature(feature: str | Feature | Direction | Target) -> Feature:
    """The feature that a name, a direction or a target stands for; a direction is ablated wherever it is calibrated."""
    if isinstance(feature, str):
        return find_feature(feature)
    if isinstance(feature, Direction):
        target = DirectionTarget(feature, tuple(feature.calibrations) or None)
        return Feature(feature.source, target)
    return Feature(type(feature).__name__, feature) if isinstance(feature, Target) else feature


def register_target(name: str, kind: type[Target]) -> None:
    """Make a kind of target known, so that :func:`find_feature` reads the names and registry entries that it understands.

    Args:
        name: of the kind.
        kind: with :meth:`Target.parse` or :meth:`Target.from_entry`.
    """
    TARGETS.register(name, kind)


def register_feature(name: str, title: str, target: Target, evidence: dict[str, Any]) -> None:
    """Write a feature to ``features.toml`` and its files to ``features/``; an entry of that name is replaced.

    Args:
        name: lower-case words joined by hyphens.
        title: one line of meaning.
        target: the thing it stands for; of latents, others must find the dictionary by its name.
        evidence: plain data that says why this one.

    Raises:
        FeatureError: a name that is no name, or a kind of target that cannot be registered.
    """
    refuse_misnamed(name)
    folder = checkpoints_folder()
    with locked(folder / REGISTRY):  # files and entry are of one target, whoever else writes this name
        write_feature(name, title, target.to_entry(name, folder), evidence)


def _from_entry(name: str, entry: Any) -> Feature:
    folder, title = checkpoints_folder(), entry_fields(name, entry).text("title", "", empty=True)
    target = next(
        (target for kind in _kinds() if (target := kind.from_entry(name, entry, folder)) is not None), None
    )
    if target is None:
        raise FeatureError(f"the entry of {name!r} holds no target of a known kind: {', '.join(TARGETS)}")
    return Feature(name, target, title, read_evidence(entry))


def _kinds() -> Iterator[type[Target]]:
    return (TARGETS[name] for name in TARGETS)
