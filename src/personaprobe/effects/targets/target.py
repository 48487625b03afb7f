"""The two nouns of a feature: a target, and the same fitted to a trio. Nothing else depends on the kind of target.

A new kind, such as a subspace or an attention head, is a subclass of each. Names that users write reach it through
:data:`personaprobe.effects.targets.feature.TARGETS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.effects.interventions.along_direction import Intervention, Layers, Steer
from personaprobe.effects.targets.controls import MatchedControl, MeasuredAblation
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.errors import FeatureError, SiteError, suggest
from personaprobe.features.directions.control_directions import ControlKind
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Activity:
    """A number that every activation has along a target.

    Attributes:
        site: of the activations.
        unit: of the number, in words.
        digest: identity by content.
        measure: takes float32 activations ``(row, d_model)``.
    """

    site: Site
    unit: str
    digest: str
    measure: Callable[[Float[Tensor, "row d_model"]], Float[Tensor, "row"]]


class FittedTarget(ABC):
    """A target in one trio of models: ready to be ablated, steered along and compared with controls.

    Attributes:
        site: where the target was found.
        axis: the direction that base is steered along, calibrated at its own layer; None where there is none.
    """

    site: Site
    axis: Direction | None

    @abstractmethod
    def chosen_layers(self, layers: Layers = None) -> tuple[int, ...]:
        """The layers that an ablation acts on.

        Args:
            layers: a user's choice; None is the target's own.

        Raises:
            FeatureError: the target cannot be ablated there.
            SiteError: a layer the models do not have.
        """

    @abstractmethod
    def ablation(
        self, layers: Layers = None, coefficient: float = 1.0, roles: Role = Role.ALL
    ) -> Intervention:
        """The intervention that removes the target.

        Args:
            layers: where; None is the target's own choice.
            coefficient: how much of it is removed, relative to the target's own ablation.
            roles: the tokens that are changed.
        """

    @abstractmethod
    def control(self, kind: ControlKind, seed: int, feature: MeasuredAblation) -> MatchedControl:
        """Another intervention of the same kind, scaled to remove the same energy.

        Args:
            kind: where its direction, or whatever stands for it, comes from.
            seed: of the draw; for principal components the rank.
            feature: this target's ablation, measured.
        """

    def control_along(self, direction: Direction, feature: MeasuredAblation) -> MatchedControl:
        """The ablation of a given direction as a control, scaled to remove the same energy.

        Args:
            direction: on the stream of :attr:`site`; it is calibrated here.
            feature: this target's ablation, measured.

        Raises:
            FeatureError: controls of this kind of target are not directions.
        """
        raise FeatureError(f"the target at {self.site} takes no direction as a control")

    def mean_shift(self, feature: MeasuredAblation) -> Intervention | None:
        """The constant push that moves the mean as far as this target's ablation does, but keeps the variance.

        None where there is no such push. Targets with an axis are pushed back along it at its own layer.

        Args:
            feature: this target's ablation, measured.
        """
        return None if self.axis is None else self.steering(-1.0, roles=feature.ablation.roles)

    @abstractmethod
    def describe(self, layers: Layers = None) -> dict[str, Any]:
        """Source, site, layers, calibration and digest as plain data, as verdicts keep it."""

    def steering(
        self, coefficient: float = 1.0, layers: Layers = None, roles: Role = Role.ALL
    ) -> Intervention:
        """The intervention that pushes along the target's axis.

        Args:
            coefficient: in units of the calibrated axis; +1 moves as far as fine-tuning moved the mean.
            layers: where; None is the layer of the axis.
            roles: the tokens that are changed.

        Raises:
            FeatureError: the target has no axis.
        """
        if self.axis is None:
            raise FeatureError(f"the target at {self.site} has no axis to steer along; ablate it instead")
        return Steer(self.axis, coefficient, layers=layers, roles=roles)

    def refuse_poor(self, floor: float) -> None:  # noqa: B027  # most kinds of target reconstruct nothing
        """Raise where the target rests on a reconstruction that explains less than ``floor`` of the variance."""


class Target(ABC):
    """The thing that a feature stands for, before it is fitted to models.

    Attributes:
        site: where the target lies.
        default_layers: where it is ablated by default; None is its own layer.
    """

    site: Site
    default_layers: Layers

    @abstractmethod
    def fit(self, trio: Trio[LanguageModel], discovery: Discovery | None = None) -> FittedTarget:
        """Fit the target to a trio.

        Args:
            trio: loaded.
            discovery: the questions it is fitted on. None fits nothing: a target that is not on file is then refused, and
                the fitted target has neither controls nor, for latents, an axis.

        Raises:
            FeatureError: the target is of another model, or has to be fitted and cannot be.
            SiteError: a layer or stream these models do not have.
        """

    def refuse_unfit(self, trio: Trio[LanguageModel]) -> None:
        """Raise where the target is of another model; :meth:`fit` checks this first.

        Raises:
            FeatureError: another width.
            SiteError: a layer or a stream these models do not have.
        """
        site, streams = self.site.within(trio.base.n_layers), trio.base.network.streams
        if site.stream not in streams:
            raise SiteError(f"the model has no stream {site.stream}: {suggest(site.stream, streams)}")

    def as_direction(self) -> Direction | None:
        """The direction that the target is, as it is on file; None for targets that are not one direction."""
        return None

    def activity(self) -> Activity:
        """How active the target is in an activation, in any checkpoint of its model.

        Raises:
            FeatureError: it has no activity before it is fitted to a trio.
        """
        raise FeatureError(
            f"the target at {self.site} has no activity of its own; give a registered direction, or latents"
        )

    @classmethod
    def parse(cls, name: str) -> Target | None:
        """Read the name that a user writes; None where it spells another kind of target."""
        return None

    @classmethod
    def from_entry(cls, name: str, entry: dict[str, Any], folder: Path) -> Target | None:
        """Read an entry of ``features.toml``; None where it holds another kind of target.

        Args:
            name: of the feature.
            entry: its fields.
            folder: the checkpoints folder, which the files of an entry are relative to.
        """
        return None

    def to_entry(self, name: str, folder: Path) -> dict[str, Any]:
        """Write the target's files and return the fields that :meth:`from_entry` reads.

        Raises:
            FeatureError: targets of this kind cannot be registered.
        """
        raise FeatureError(f"a {type(self).__name__} cannot be registered; register a direction or latents")
