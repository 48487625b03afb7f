"""Interventions along a direction: ablate, steer, clamp and cap a projection, at chosen layers and on chosen tokens.

Every intervention is a map of the projection onto the direction. With ``p = x·d`` the activation becomes
``x + (move(p) − p) d``: nothing orthogonal to the direction changes. The empty tuple of interventions is the baseline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.models.edits.edit import Edit, EditSource
from personaprobe.models.edits.rank_one import AffineClamp, RankOneEdit
from personaprobe.models.tokens import Role, role_names
from personaprobe.site import Site

Layers: TypeAlias = "Literal['all'] | Sequence[int] | None"
"""Which layers: ``None`` for the direction's own, ``"all"``, or a list."""


@runtime_checkable
class Intervention(EditSource, Protocol):
    """A change of the activations of some tokens, with a description of itself."""

    @property
    def roles(self) -> Role:
        """The tokens that are changed; padding never is, first tokens only where ``Role.FIRST`` is named."""
        ...

    @property
    def note(self) -> str:
        """A few words for tables."""
        ...

    def describe(self) -> dict[str, Any]:
        """The intervention as plain data, by which a run folder recognises it."""
        ...


@dataclass(frozen=True)
class Along(ABC):
    """A change along one direction.

    Attributes:
        direction: the axis.
        layers: where the direction's stream is edited.
        roles: the tokens that are changed. Padding never is, and a text's first token only where it is named:
            ``Role.ALL | Role.FIRST``.
    """

    direction: Direction
    _: KW_ONLY
    layers: Layers = None
    roles: Role = Role.ALL

    @abstractmethod
    def move(self, layer: int) -> AffineClamp:
        """The map of projections ``x·d`` at a layer.

        Raises:
            FeatureError: the map needs a calibration that the direction lacks there.
        """

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Numbers and choices of this kind of change, under the keys that run folders know."""

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """One edit a layer."""
        vector, roles, source = self.direction.vector, int(self.roles), self.direction.source
        return {
            Site(layer, self.direction.site.stream): RankOneEdit(vector, self.move(layer), roles, source)
            for layer in chosen_layers(self.layers, self.direction.site.layer, n_layers)
        }

    @property
    def note(self) -> str:
        """A few words for tables."""
        return f"{type(self).__name__.lower()} {self.direction.source} @ {self.direction.site}"

    def describe(self) -> dict[str, Any]:
        """The intervention as plain data, by which a run folder recognises it."""
        return {
            "kind": type(self).__name__,
            "direction": self.direction.digest,
            "layers": self.layers,
            "roles": role_names(self.roles),
            **self.parameters,
        }


def chosen_layers(layers: Layers, default: int, n_layers: int) -> tuple[int, ...]:
    """Spell a choice of layers out.

    Args:
        layers: None for the direction's own, ``"all"``, or a list.
        default: the direction's own layer.
        n_layers: of the model.

    Raises:
        SiteError: a layer the model does not have.
    """
    if layers is None:
        layers = (default,)
    elif isinstance(layers, str):
        return tuple(range(n_layers))
    return tuple(Site(layer).within(n_layers).layer for layer in layers)


def refuse_no_number(coefficient: object, example: str) -> None:
    """Raise where a coefficient is no number: layers are often put in its place."""
    by_layer = coefficient.values() if isinstance(coefficient, Mapping) else [coefficient]
    if not all(isinstance(value, Real) for value in by_layer):
        raise FeatureError(f"the coefficient {coefficient!r} is no number; give layers by keyword: {example}")


@dataclass(frozen=True)
class Ablate(Along):
    """Remove the feature: move the projection to where the reference sits, or to zero.

    Attributes:
        coefficient: how much of the way the projection is moved; 1 reaches the target exactly. A mapping gives one
            coefficient a layer: so are controls matched on the energy they remove.
        to: ``"reference"`` keeps as much along the direction as the reference has; ``"zero"`` projects it out.
    """

    coefficient: float | Mapping[int, float] = 1.0
    to: Literal["reference", "zero"] = field(default="reference", kw_only=True)

    def __post_init__(self) -> None:
        refuse_no_number(self.coefficient, "Ablate(direction, layers=[3])")

    @property
    def parameters(self) -> dict[str, Any]:
        coefficient = self.coefficient
        return {
            "to": self.to,
            "strength": dict(coefficient) if isinstance(coefficient, Mapping) else coefficient,
        }

    def move(self, layer: int) -> AffineClamp:
        """The projection goes ``coefficient`` of the way to the target."""
        target = self.direction.calibration(layer).reference if self.to == "reference" else 0.0
        coefficient = self.coefficient[layer] if isinstance(self.coefficient, Mapping) else self.coefficient
        return AffineClamp(scale=1 - coefficient, shift=coefficient * target)


@dataclass(frozen=True)
class Steer(Along):
    """Push along the calibrated axis: +1 moves as far as fine-tuning moved the mean, −1 takes it back.

    Attributes:
        coefficient: in units of the calibrated axis.
    """

    coefficient: float = 1.0

    def __post_init__(self) -> None:
        refuse_no_number(self.coefficient, "Steer(direction, 1.0, layers=[3])")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"amount": self.coefficient}

    def move(self, layer: int) -> AffineClamp:
        """Add ``coefficient`` gaps."""
        return AffineClamp(shift=self.coefficient * self.direction.calibration(layer).gap)


@dataclass(frozen=True)
class Clamp(Along):
    """Hold the feature at one point of the calibrated axis, on every selected token.

    Attributes:
        coefficient: that point: 0 is where the reference sits on average, 1 where insecure sits.
    """

    coefficient: float = 0.0

    def __post_init__(self) -> None:
        refuse_no_number(self.coefficient, "Clamp(direction, 0.0, layers=[3])")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"reading": self.coefficient}

    def move(self, layer: int) -> AffineClamp:
        """Every projection goes to that point."""
        axis = self.direction.calibration(layer)
        return AffineClamp(scale=0.0, shift=axis.reference + self.coefficient * axis.gap)


@dataclass(frozen=True)
class Cap(Along):
    """Keep the feature inside a range of the calibrated axis; activations already inside stay as they are.

    Attributes:
        low: the lowest reading allowed.
        high: the highest reading allowed.
    """

    _: KW_ONLY
    low: float = float("-inf")
    high: float = 0.0

    @property
    def parameters(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}

    def move(self, layer: int) -> AffineClamp:
        """Projections outside the range go to its nearer end."""
        axis = self.direction.calibration(layer)
        low, high = sorted((axis.reference + self.low * axis.gap, axis.reference + self.high * axis.gap))
        return AffineClamp(low=low, high=high)
