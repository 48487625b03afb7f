"""Interventions: what is done to the activations along a direction, at which layers and on which tokens.

Every intervention is a map of the projection onto the direction. With ``p = x·d`` the activation becomes
``x + (move(p) − p) d``: nothing orthogonal to the direction changes. The empty tuple of interventions is the baseline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from personaprobe.features.directions.direction import Direction
from personaprobe.models.edits.edit import Edit, EditSource
from personaprobe.models.edits.rank_one import AffineClamp, RankOneEdit
from personaprobe.models.tokens import Role, role_names
from personaprobe.site import Site

Layers: TypeAlias = "Literal['all'] | Sequence[int] | None"
"""Which layers: ``None`` for the direction's own, ``"all"``, or a list."""


@runtime_checkable
class Intervention(EditSource, Protocol):
    """Something done to the activations of some tokens, that says what it is."""

    @property
    def roles(self) -> Role:
        """On which tokens; padding is never touched, first tokens only where ``Role.FIRST`` is named."""
        ...

    @property
    def note(self) -> str:
        """A few words for tables."""
        ...

    def describe(self) -> dict[str, Any]:
        """The intervention as plain data: what a run folder remembers it by."""
        ...


@dataclass(frozen=True)
class Along(ABC):
    """A change along one direction.

    Attributes:
        direction: the axis.
        layers: where; at every layer the direction's stream is edited.
        roles: on which tokens; padding is never touched. A text's first token is left alone unless it is named:
            ``Role.ALL | Role.FIRST``.
    """

    direction: Direction
    layers: Layers = None
    roles: Role = Role.ALL

    @abstractmethod
    def move(self, layer: int) -> AffineClamp:
        """Where projections ``x·d`` go at a layer.

        Raises:
            FeatureError: the direction is not calibrated there, and would have to be.
        """

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
        """The intervention as plain data: what a run folder remembers it by."""
        own = {key: getattr(self, key) for key in self.__dataclass_fields__ if key != "direction"}
        own = {key: dict(value) if isinstance(value, Mapping) else value for key, value in own.items()}
        return {
            "kind": type(self).__name__,
            "direction": self.direction.digest,
            **own,
            "roles": role_names(self.roles),
        }


def chosen_layers(layers: Layers, own: int, n_layers: int) -> tuple[int, ...]:
    """Spell a choice of layers out, refusing those the model does not have."""
    if layers is None:
        layers = (own,)
    elif isinstance(layers, str):
        return tuple(range(n_layers))
    return tuple(Site(layer).within(n_layers).layer for layer in layers)


@dataclass(frozen=True)
class Ablate(Along):
    """Take the feature away: set the projection to where the reference sits, or to zero.

    Attributes:
        to: ``"reference"`` keeps what the reference has along the direction; ``"zero"`` projects it out.
        strength: 1 reaches the target exactly; another number, or one a layer, scales the change (this is how
            random controls are matched on the energy they remove).
    """

    to: Literal["reference", "zero"] = "reference"
    strength: float | Mapping[int, float] = 1.0

    def move(self, layer: int) -> AffineClamp:
        """Go ``strength`` of the way to the target."""
        target = self.direction.mark(layer).rest if self.to == "reference" else 0.0
        strength = self.strength[layer] if isinstance(self.strength, Mapping) else self.strength
        return AffineClamp(scale=1 - strength, shift=strength * target)


@dataclass(frozen=True)
class Steer(Along):
    """Push along the calibrated axis: +1 moves as far as fine-tuning moved the mean, −1 takes it back.

    Attributes:
        amount: in units of the calibrated axis.
    """

    amount: float = 1.0

    def move(self, layer: int) -> AffineClamp:
        """Add ``amount`` gaps."""
        return AffineClamp(shift=self.amount * self.direction.mark(layer).scale)


@dataclass(frozen=True)
class Clamp(Along):
    """Hold the feature at one reading of the calibrated axis, on every selected token.

    Attributes:
        reading: 0 is where the reference sits on average, 1 where insecure sits.
    """

    reading: float = 0.0

    def move(self, layer: int) -> AffineClamp:
        """Go to the reading."""
        mark = self.direction.mark(layer)
        return AffineClamp(scale=0.0, shift=mark.rest + self.reading * mark.scale)


@dataclass(frozen=True)
class Cap(Along):
    """Keep the feature inside a range of the calibrated axis, and leave activations already inside alone.

    Attributes:
        low: lowest reading allowed.
        high: highest reading allowed.
    """

    low: float = float("-inf")
    high: float = 0.0

    def move(self, layer: int) -> AffineClamp:
        """Go to the nearest end of the range, if outside."""
        mark = self.direction.mark(layer)
        low, high = sorted((mark.rest + self.low * mark.scale, mark.rest + self.high * mark.scale))
        return AffineClamp(low=low, high=high)
