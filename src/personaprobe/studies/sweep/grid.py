"""The map of a sweep: sources × layers × reaches × doses, ablated on the discovery families only.

The sweep never reads a test question. :mod:`choosing` picks one cell; it is registered with the whole map as its evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias, get_args

from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.errors import DataError
from personaprobe.features.directions.sources import Discovery, find_direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.site import Site
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.measurement import Bench

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
        doses: how far to ablate it; 1 goes to the reference, 2 as far again.
    """

    sources: tuple[str, ...]
    layers: tuple[int, ...]
    reaches: tuple[Reach, ...]
    questions: PairSet
    texts: TextSet
    doses: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        axes = {"sources": self.sources, "layers": self.layers, "reaches": self.reaches, "doses": self.doses}
        if empty := [name for name, values in axes.items() if not values]:
            raise DataError(f"the grid has no {', no '.join(empty)}; give one at least")
        if wrong := [dose for dose in self.doses if not 0 < dose < math.inf]:
            raise DataError(
                f"a dose of {wrong[0]:g} ablates nothing; give numbers above 0, such as 0.5, 1 and 1.5"
            )


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
        dose: how far it was ablated.
        coherence: coherent answers to discovery questions, relative to the untreated insecure model's; None where none
            were drawn, since only cells that may be chosen answer.
    """

    source: str
    layer: int
    reach: Reach
    fraction_removed: float
    perplexity_ratio: float
    kl: float
    dose: float = 1.0
    coherence: float | None = None

    def ablated(self, insecure: LanguageModel, found: Discovery) -> Arm:
        """The insecure model with this cell's direction ablated."""
        direction = find_direction(found, self.source, Site(self.layer))
        layers = reached(self.reach, self.layer, insecure.n_layers)
        name = f"{self.source}@{self.layer} {self.reach} × {self.dose:g}"
        return Arm(name, "ablated", insecure, (Ablate(direction, layers, strength=self.dose),))


def sweep(trio: Trio[LanguageModel], found: Discovery, grid: Grid, bench: Bench) -> list[Cell]:
    """Ablate every direction of the grid in the insecure model and measure effect and damage."""
    untreated = [Arm(role, role, model) for role, model in trio.items()]  # type: ignore[arg-type]  # roles are kinds
    tried = [
        Cell(source, layer, reach, math.nan, math.nan, math.nan, dose)
        for source, layer, reach, dose in product(grid.sources, grid.layers, grid.reaches, grid.doses)
    ]
    arms = [*untreated, *(cell.ablated(trio.insecure, found) for cell in tried)]
    gaps = [sum(part["gaps"]) / len(grid.questions) for part in bench.gaps(arms, grid.questions)]
    costs = bench.costs([untreated[1], *arms[3:]], grid.texts)
    _, insecure, secure = gaps[:3]
    return [
        replace(
            cell,
            fraction_removed=(insecure - gap) / (insecure - secure),
            perplexity_ratio=cost.perplexity / costs[0].perplexity,
            kl=cost.kl,
        )
        for cell, gap, cost in zip(tried, gaps[3:], costs[1:], strict=True)
    ]


def find_reaches(names: Sequence[str]) -> tuple[Reach, ...]:
    """Reaches by their names.

    Raises:
        DataError: another name.
    """
    known: Mapping[str, Reach] = {reach: reach for reach in get_args(Reach)}
    if unknown := [name for name in names if name not in known]:
        raise DataError(f"{unknown[0]!r} is no reach; give {', '.join(known)}")
    return tuple(known[name] for name in names)


def reached(reach: Reach, own: int, n_layers: int) -> tuple[int, ...]:
    """The layers a reach means for a direction found at layer ``own``."""
    first, last = {"own": (own, own + 1), "onward": (own, n_layers), "all": (0, n_layers)}[reach]
    return tuple(range(first, last))
