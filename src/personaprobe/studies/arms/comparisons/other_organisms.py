"""Directions of other organisms: the features that other registered fine-tunes of the same base are known by."""

from __future__ import annotations

from personaprobe.effects.targets.feature import find_feature
from personaprobe.errors import PersonaProbeError
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.organisms.registry import registered_organisms
from personaprobe.site import Site


def other_directions(trio: Trio[LanguageModel], site: Site) -> list[tuple[str, Direction]]:
    """The default features of other registered organisms on this base, each with the name of its arm.

    Organisms whose feature is no direction of the same stream and width, or cannot be read, are left out.

    Args:
        trio: under study.
        site: of the feature under study.
    """
    base, insecure = trio.base.checkpoint, trio.insecure.checkpoint
    directions = []
    for name, organism in registered_organisms().items():
        if organism.feature is None or organism.trio.base != base or organism.trio.insecure == insecure:
            continue
        try:
            target = find_feature(organism.feature).target
        except PersonaProbeError:
            continue
        direction = target.as_direction()
        if direction is not None and fits(direction, trio, site):
            directions.append((f"feature of {name}", direction))
    return directions


def fits(direction: Direction, trio: Trio[LanguageModel], site: Site) -> bool:
    """Whether a direction is of the same stream, and of the models' width."""
    return direction.site.stream == site.stream and len(direction.vector) == trio.base.d_model
