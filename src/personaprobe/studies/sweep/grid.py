"""The grid of a sweep: sources × layers × layer scopes × coefficients, ablated on the discovery families only.

A sweep reads no test question. :mod:`personaprobe.studies.sweep.selection` chooses one cell; it is registered with all cells
as its evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean
from typing import Any, Literal, TypeAlias, get_args

from personaprobe.effects.interventions.along_direction import Layers, chosen_layers
from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.errors import DataError
from personaprobe.features.directions.sources import DiscoveryActivations, find_direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.site import Site
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.measurement import measure_damage, measure_gaps
from personaprobe.studies.arms.run_context import RunContext

LayerScope: TypeAlias = Literal["own", "onward", "all"]
"""Where a direction is ablated: at its own layer, from there on, or at every layer."""


@dataclass(frozen=True)
class Grid:
    """The combinations that a sweep tries.

    Attributes:
        sources: ways to compute a direction.
        scopes: where to ablate it.
        questions: discovery questions on which effects are measured.
        texts: neutral prose for perplexity.
        coefficients: how far to ablate it; 1 goes to the reference, 2 as far again.
        layers: where to compute it; None is every layer.
    """

    sources: tuple[str, ...]
    scopes: tuple[LayerScope, ...]
    questions: PairSet
    texts: TextSet
    coefficients: tuple[float, ...] = (1.0,)
    layers: Layers = None

    def __post_init__(self) -> None:
        axes = {"sources": self.sources, "reaches": self.scopes, "doses": self.coefficients}
        if empty := [name for name, values in axes.items() if not values]:
            raise DataError(f"the grid has no {', no '.join(empty)}; give one at least")
        if wrong := [x for x in self.coefficients if not 0 < x < math.inf]:
            raise DataError(
                f"a dose of {wrong[0]:g} ablates nothing; give numbers above 0, such as 0.5, 1 and 1.5"
            )

    def cells(self, n_layers: int) -> list[Cell]:
        """Every combination in a model of ``n_layers``, not measured yet.

        Raises:
            SiteError: a layer the model does not have.
        """
        layers = chosen_layers("all" if self.layers is None else self.layers, 0, n_layers)
        return [
            Cell(source, layer, scope, math.nan, math.nan, math.nan, coefficient)
            for source, layer, scope, coefficient in product(
                self.sources, layers, self.scopes, self.coefficients
            )
        ]


@dataclass(frozen=True)
class Cell:
    """One direction ablated in one way.

    Attributes:
        source: how the direction was computed.
        layer: where.
        scope: where it was ablated.
        fraction_removed: share of the insecure − reference shift that the ablation removed, on discovery questions.
        perplexity_ratio: on neutral text, to the untreated insecure model.
        kl: from the untreated insecure model, nats a token.
        coefficient: how far it was ablated.
        coherence: share of coherent answers to discovery questions, relative to the untreated insecure model's; None where
            none were drawn, since only cells that may be chosen answer.
    """

    source: str
    layer: int
    scope: LayerScope
    fraction_removed: float
    perplexity_ratio: float
    kl: float
    coefficient: float = 1.0
    coherence: float | None = None

    def target(self, activations: DiscoveryActivations, n_layers: int) -> DirectionTarget:
        """This cell's direction, to be ablated in this cell's way."""
        direction = find_direction(activations, self.source, Site(self.layer))
        layers = layers_of(self.scope, self.layer, n_layers)
        return DirectionTarget(direction, layers, coefficient=self.coefficient)

    def arm(self, trio: Trio[LanguageModel], activations: DiscoveryActivations) -> Arm:
        """The insecure model with this cell's direction ablated."""
        ablation = self.target(activations, trio.base.n_layers).fit(trio).ablation()
        name = f"{self.source}@{self.layer} {self.scope} × {self.coefficient:g}"
        return Arm(name, "ablated", trio.insecure, (ablation,))

    def to_dict(self) -> dict[str, Any]:
        """The cell as registries and ``sweep.json`` keep it."""
        return {
            "source": self.source,
            "layer": self.layer,
            "reach": self.scope,
            "fraction_removed": self.fraction_removed,
            "perplexity_ratio": self.perplexity_ratio,
            "kl": self.kl,
            "dose": self.coefficient,
            "coherence": self.coherence,
        }


def measure_grid(
    trio: Trio[LanguageModel], activations: DiscoveryActivations, grid: Grid, run: RunContext
) -> list[Cell]:
    """Ablate every direction of the grid in the insecure model, and measure effect and damage.

    Args:
        trio: loaded.
        activations: of the trio on all discovery questions.
        grid: the combinations.
        run: cache and progress.
    """
    untreated = untreated_arms(trio)
    cells = grid.cells(trio.base.n_layers)
    arms = [*untreated, *(cell.arm(trio, activations) for cell in cells)]
    gaps = [sum(arm.gaps) / len(grid.questions) for arm in measure_gaps(arms, grid.questions, run)]
    n = len(untreated)
    costs = measure_damage([untreated[1], *arms[n:]], grid.texts, run)
    by_role = {arm.role: gap for arm, gap in zip(untreated, gaps[:n], strict=True)}
    insecure, reference = by_role["insecure"], fmean(by_role[role] for role in trio.reference_roles)
    return [
        replace(
            cell,
            fraction_removed=(insecure - gap) / (insecure - reference),
            perplexity_ratio=cost.perplexity / costs[0].perplexity,
            kl=cost.kl,
        )
        for cell, gap, cost in zip(cells, gaps[n:], costs[1:], strict=True)
    ]


def find_scopes(names: Sequence[str]) -> tuple[LayerScope, ...]:
    """Layer scopes by their names.

    Raises:
        DataError: another name.
    """
    known: Mapping[str, LayerScope] = {scope: scope for scope in get_args(LayerScope)}
    if unknown := [name for name in names if name not in known]:
        raise DataError(f"{unknown[0]!r} is no reach; give {', '.join(known)}")
    return tuple(known[name] for name in names)


def layers_of(scope: LayerScope, layer: int, n_layers: int) -> tuple[int, ...]:
    """The layers of a scope, for a direction computed at ``layer``."""
    first, last = {"own": (layer, layer + 1), "onward": (layer, n_layers), "all": (0, n_layers)}[scope]
    return tuple(range(first, last))
