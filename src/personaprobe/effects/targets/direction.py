"""Directions as targets: ablated along one calibrated axis, at any layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from personaprobe.effects.interventions.along_direction import Ablate, Layers, chosen_layers
from personaprobe.effects.interventions.mean_shift import Push, fit_mean_shift
from personaprobe.effects.targets.controls import MatchedControl, MeasuredAblation, matched_direction
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.target import Activity, FittedTarget, Target
from personaprobe.errors import FeatureError, one_line
from personaprobe.features.directions.control_directions import ControlDirections, ControlKind
from personaprobe.features.directions.direction import Direction
from personaprobe.features.registry.registry import entry_fields, file_of
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.paths import is_file, user_path

Destination: TypeAlias = Literal["reference", "zero"]
"""Where an ablation moves a projection: to where the reference sits, or to zero."""

PICKLES = (".pt", ".bin", ".pkl", ".pickle")


@dataclass(frozen=True)
class DirectionTarget(Target):
    """A direction on file or in memory.

    Attributes:
        direction: the axis.
        default_layers: where it is ablated by default.
        to: where its projection is moved.
        coefficient: how much of the way; 1 reaches it.
    """

    direction: Direction
    default_layers: Layers = "all"
    to: Destination = "reference"
    coefficient: float = 1.0

    @cached_property
    def site(self) -> Site:  # type: ignore[override]  # frozen, as all values
        return self.direction.site

    def __str__(self) -> str:
        return repr(self.direction)

    def as_direction(self) -> Direction:
        return self.direction

    def refuse_unfit(self, trio: Trio[LanguageModel]) -> None:
        super().refuse_unfit(trio)
        width, d_model = len(self.direction.vector), trio.base.d_model
        if width != d_model:
            raise FeatureError(
                f"the direction {self.direction.source} at {self.site} has d_model {width} and the model {d_model}; "
                f"give a direction found in this model, or a recipe such as means@{self.site.layer}"
            )

    def fit(self, trio: Trio[LanguageModel], discovery: Discovery | None = None) -> FittedDirection:
        self.refuse_unfit(trio)
        return FittedDirection(self, trio, discovery)

    def activity(self) -> Activity:
        """The place on the calibrated axis of its own layer."""
        unit = "1 is the difference of insecure and reference in the trio where it was found"
        return Activity(self.site, unit, self.direction.digest, self.direction.read)

    @classmethod
    def parse(cls, name: str) -> DirectionTarget | None:
        """Read the path of a direction file: it ends in ``.safetensors`` or holds a slash.

        Raises:
            FeatureError: no such file, no direction in it, or a pickle.
        """
        if name.endswith(".safetensors") or "/" in name:
            path = user_path(name, FeatureError)
            if not is_file(path):
                raise FeatureError(
                    f"no direction file at {one_line(path)}; give a .safetensors file written by Direction.save"
                )
            return cls(Direction.load(path))
        if Path(name).suffix in PICKLES:
            raise FeatureError(
                f"{name} is a pickle, which can run code, and is refused; save the direction as safetensors"
            )
        return None

    @classmethod
    def from_entry(cls, name: str, entry: dict[str, Any], folder: Path) -> DirectionTarget | None:
        if "direction" not in entry:
            return None
        fields = entry_fields(name, entry)
        fields.refuse_unknown(("title", "evidence", "direction", "sha256", "layers", "to", "strength"))
        path = folder / fields.text("direction")
        if not is_file(path):
            raise FeatureError(f"there is no direction file at {one_line(path)}; restore it from git")
        if sha256_of(path) != fields.text("sha256", empty=True):
            raise FeatureError(
                f"{path} is not the direction registered as {name!r} (sha256 differs); restore it from git"
            )
        to = fields.text("to", "reference")
        if to not in get_args(Destination):
            raise fields.wrong("to", " or ".join(get_args(Destination)))
        layers: Layers = "all" if entry.get("layers", "all") == "all" else fields.integers("layers")
        return cls(Direction.load(path), layers, to, fields.number("strength", 1.0))

    def to_entry(self, name: str, folder: Path) -> dict[str, Any]:
        path, layers = file_of(name), self.default_layers
        self.direction.save(folder / path)
        return {
            "direction": path.as_posix(),
            "sha256": sha256_of(folder / path),
            "layers": layers if layers == "all" else list(layers or [self.site.layer]),
            "to": self.to,
            "strength": self.coefficient,
        }


@dataclass(frozen=True, eq=False)
class FittedDirection(FittedTarget):
    """A direction in one trio.

    Attributes:
        target: with the direction itself, calibrated at every layer it is ablated at.
        trio: loaded.
        discovery: from which control directions are drawn; None where there are no controls.
    """

    target: DirectionTarget
    trio: Trio[LanguageModel]
    discovery: Discovery | None = None

    @cached_property
    def site(self) -> Site:  # type: ignore[override]  # frozen, as all values
        return self.target.site

    @cached_property
    def axis(self) -> Direction | None:  # type: ignore[override]  # frozen, as all values
        return self.target.direction

    def chosen_layers(self, layers: Layers = None) -> tuple[int, ...]:
        choice = self.target.default_layers if layers is None else layers
        return chosen_layers(choice, self.site.layer, self.trio.base.n_layers)

    def ablation(self, layers: Layers = None, coefficient: float = 1.0, roles: Role = Role.ALL) -> Ablate:
        """The projection moved towards its destination at every layer, as far as the target says."""
        return Ablate(
            self.target.direction,
            coefficient * self.target.coefficient,
            layers=self.chosen_layers(layers),
            roles=roles,
            to=self.target.to,
        )

    def control(self, kind: ControlKind, seed: int, feature: MeasuredAblation) -> MatchedControl:
        """Another direction, ablated at the same layers."""
        return self._matched(self._control_directions.draw(kind, seed), feature)

    def control_along(self, direction: Direction, feature: MeasuredAblation) -> MatchedControl:
        """A given direction, ablated at the same layers."""
        return self._matched(self._control_directions.calibrate(direction), feature)

    def _matched(self, direction: Direction, feature: MeasuredAblation) -> MatchedControl:
        control = Ablate(direction, roles=feature.ablation.roles, to=self.target.to)
        return matched_direction(control, feature, self.target.coefficient)

    def mean_shift(self, feature: MeasuredAblation) -> Push:
        """A constant push at every layer that the ablation acts on, fitted to the texts of the measured ablation."""
        assert isinstance(feature.ablation, Ablate)
        return fit_mean_shift(feature.model, feature.ablation, feature.rows)

    @cached_property
    def _control_directions(self) -> ControlDirections:
        if self.discovery is None:
            raise FeatureError("control directions are drawn from discovery texts; fit the target to some")
        vector = self.target.direction.vector[None]
        return self.discovery.control_directions(self.trio, self.site, vector)

    def describe(self, layers: Layers = None) -> dict[str, Any]:
        direction = self.target.direction
        return {
            "source": direction.source,
            "site": str(direction.site),
            "layers": list(self.chosen_layers(layers)),
            "to": self.target.to,
            "strength": self.target.coefficient,
            "rest": direction.reference,
            "scale": direction.gap,
            "digest": direction.digest,
        }
