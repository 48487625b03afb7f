"""Choosing a feature: sources × layers, ablated on the discovery families only.

The sweep never reads a test question. What it chooses is registered with the whole map as its evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from personaprobe.effects.interventions import Ablate
from personaprobe.errors import DataError
from personaprobe.features.sources import Discovery, find_direction
from personaprobe.models.checkpoint import Trio
from personaprobe.models.language_model import LanguageModel
from personaprobe.prompts import PairSet, TextSet
from personaprobe.site import Site
from personaprobe.studies.arms import Arm
from personaprobe.studies.measuring import Bench

Reach: TypeAlias = Literal["own", "onward", "all"]
"""Where a direction is ablated: at its own layer, from there on, or at every layer."""


@dataclass(frozen=True)
class Grid:
    """What a sweep tries.

    Attributes:
        sources: ways to find a direction.
        layers: where to find it.
        reaches: where to ablate it.
        questions: discovery questions that effects are measured on.
        texts: neutral prose for perplexity.
    """

    sources: tuple[str, ...]
    layers: tuple[int, ...]
    reaches: tuple[Reach, ...]
    questions: PairSet
    texts: TextSet


@dataclass(frozen=True)
class Cell:
    """One direction, ablated.

    Attributes:
        source: how the direction was found.
        layer: where.
        reach: where it was ablated.
        fraction_removed: share of the insecure − secure shift that went, on discovery questions.
        perplexity_ratio: on neutral text, to the untreated insecure model.
        kl: from the untreated insecure model, nats a token.
    """

    source: str
    layer: int
    reach: Reach
    fraction_removed: float
    perplexity_ratio: float
    kl: float


def sweep(trio: Trio[LanguageModel], found: Discovery, grid: Grid, bench: Bench) -> list[Cell]:
    """Ablate every direction of the grid in the insecure model and measure effect and damage."""
    untreated = [Arm(role, role, model) for role, model in trio.items()]  # type: ignore[arg-type]  # roles are kinds
    tried = [
        (source, layer, reach, _arm(trio.insecure, found, (source, layer, reach)))
        for source in grid.sources
        for layer in grid.layers
        for reach in grid.reaches
    ]
    arms = [*untreated, *(arm for *_, arm in tried)]
    gaps = [sum(part["gaps"]) / len(grid.questions) for part in bench.gaps(arms, grid.questions)]
    costs = bench.costs([untreated[1], *arms[3:]], grid.texts)
    _, insecure, secure = gaps[:3]
    return [
        Cell(
            source,
            layer,
            reach,
            (insecure - gap) / (insecure - secure),
            cost.perplexity / costs[0].perplexity,
            cost.kl,
        )
        for (source, layer, reach, _), gap, cost in zip(tried, gaps[3:], costs[1:], strict=True)
    ]


def _arm(insecure: LanguageModel, found: Discovery, tried: tuple[str, int, Reach]) -> Arm:
    source, layer, reach = tried
    direction = find_direction(found, source, Site(layer))
    ablation = Ablate(direction, reached(reach, layer, insecure.n_layers))
    return Arm(f"{source}@{layer} {reach}", "ablated", insecure, (ablation,))


def reached(reach: Reach, own: int, n_layers: int) -> tuple[int, ...]:
    """The layers a reach means for a direction found at layer ``own``."""
    first, last = {"own": (own, own + 1), "onward": (own, n_layers), "all": (0, n_layers)}[reach]
    return tuple(range(first, last))


def choose(cells: Sequence[Cell], max_perplexity_ratio: float = 1.03) -> Cell:
    """The cell that removes most of the shift among those that cost little.

    Raises:
        DataError: every cell costs more than allowed.
    """
    allowed = [cell for cell in cells if cell.perplexity_ratio <= max_perplexity_ratio]
    if not allowed:
        least = min(cells, key=lambda cell: cell.perplexity_ratio)
        raise DataError(
            f"no direction stays within perplexity × {max_perplexity_ratio}; the least is × {least.perplexity_ratio:.2f} "
            f"({least.source}@{least.layer}, {least.reach}): try other layers or reaches"
        )
    return max(allowed, key=lambda cell: cell.fraction_removed)


def evidence(cells: Sequence[Cell], chosen: Cell, grid: Grid) -> dict[str, Any]:
    """The whole map and what was chosen from it, as plain data for the registry."""
    return {
        "chosen": asdict(chosen),
        "sweep": [asdict(cell) for cell in cells],
        "questions": {"name": grid.questions.name, "digest": grid.questions.digest, "n": len(grid.questions)},
        "families": sorted(set(grid.questions.families)),
        "texts": {"name": grid.texts.name, "digest": grid.texts.digest, "n": len(grid.texts)},
    }
