"""What is done to the insecure model, and what its controls must copy: an ablation along a direction, or of latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.effects.interventions.along_direction import (
    Ablate,
    Intervention,
    Layers,
    Steer,
    chosen_layers,
)
from personaprobe.effects.interventions.energy import Energy, match, measure
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.errors import FeatureError
from personaprobe.features.directions.control_directions import ControlDirections, ControlKind
from personaprobe.features.directions.direction import Direction
from personaprobe.features.registry.registry import Feature
from personaprobe.features.sae.diffing.comparison import Comparison
from personaprobe.features.sae.diffing.matched_controls import matched_latents, shuffled_latents
from personaprobe.features.sae.latents import Latents
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role, Tokens
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress
from personaprobe.site import Site
from personaprobe.studies.ablation.resolution import (
    discover,
    observe,
    refuse_unfit,
    resolve,
    response_activations,
)
from personaprobe.studies.arms.plan import StudyPlan

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

CALIBRATED_ON = ("insecure", "secure")
"""Checkpoints whose activations controls are found and calibrated on."""


@dataclass(frozen=True)
class Matched:
    """A control at the strength that removes the feature's energy.

    Attributes:
        intervention: the control's.
        energies: what it does at every site.
        strengths: by layer, how far it goes towards its own target, relative to how far the feature goes towards its.
    """

    intervention: Intervention
    energies: Mapping[Site, Energy]
    strengths: Mapping[int, float]


@dataclass(frozen=True)
class DirectionTreatment:
    """Ablation along a direction, at every layer it is asked for.

    Attributes:
        feature: as it was named.
        direction: calibrated at every layer it is ablated at.
        layers: where it is ablated.
        controls: where directions to compare it with come from.
        roles: tokens that are acted on.
    """

    feature: Feature
    direction: Direction
    layers: tuple[int, ...]
    controls: ControlDirections
    roles: Role = Role.ALL

    @property
    def axis(self) -> Direction:
        """The direction itself."""
        return self.direction

    def ablation(self, strength: float = 1.0) -> Ablate:
        """The projection moved to the target at every layer, as far as the feature says."""
        feature = self.feature
        return Ablate(
            self.direction, self.layers, self.roles, to=feature.to, strength=strength * feature.strength
        )

    def control(
        self,
        model: LanguageModel,
        kind: ControlKind,
        seed: int,
        wanted: Mapping[Site, Energy],
        rows: Sequence[Tokens],
    ) -> Matched:
        """Another direction, ablated at the same layers."""
        return _matched_direction(
            model,
            replace(self.ablation(), direction=self.controls.draw(kind, seed)),
            wanted,
            rows,
            self.feature.strength,
        )

    def describe(self) -> dict[str, Any]:
        """Source, site, layers and calibration."""
        told = {"source": self.direction.source, "site": str(self.direction.site)}
        marks = {"rest": self.direction.rest, "scale": self.direction.scale, "digest": self.direction.digest}
        own = {"to": self.feature.to, "strength": self.feature.strength}
        return {**told, "layers": list(self.layers), **own, **marks}


@dataclass(frozen=True)
class LatentTreatment:
    """Ablation of latents of a dictionary, at its site.

    Attributes:
        feature: as it was named.
        latents: of which dictionary.
        found: what all latents of the dictionary do on the calibration texts, which matched latents are drawn from.
        controls: where directions to compare them with come from.
        roles: tokens that are acted on.
    """

    feature: Feature
    latents: Latents
    found: Comparison
    controls: ControlDirections
    roles: Role = Role.ALL

    @property
    def layers(self) -> tuple[int, ...]:
        """The dictionary's own."""
        return (self.latents.dictionary.site.layer,)

    @property
    def axis(self) -> Direction:
        """What the latents write more in insecure than in secure, on average."""
        return self.latents.axis(self.found)

    def ablation(self, strength: float = 1.0) -> AblateLatents:
        """The latents set to zero."""
        return AblateLatents(self.latents.dictionary, self.latents.latents, strength, self.roles)

    def control(
        self,
        model: LanguageModel,
        kind: ControlKind,
        seed: int,
        wanted: Mapping[Site, Energy],
        rows: Sequence[Tokens],
    ) -> Matched:
        """As many other latents that fire as often, or that rank first where labels mean nothing; or a direction at the
        dictionary's site."""
        if kind in {"covariance", "component"}:
            ablation = Ablate(self.controls.draw(kind, seed), self.layers, self.roles)
            return _matched_direction(model, ablation, wanted, rows, 1.0)
        choose = matched_latents if kind == "random" else shuffled_latents
        control = replace(self.ablation(), latents=choose(self.found, self.latents.latents, seed))
        matched = control.matched(model, wanted[self.latents.site], rows)
        strengths = {self.latents.site.layer: matched.strength}
        return Matched(matched, measure(model, matched, rows), strengths)

    def describe(self) -> dict[str, Any]:
        """Dictionary, latents and calibration."""
        dictionary, axis = self.latents.dictionary, self.axis
        return {
            "source": f"sae:{dictionary.name}/{','.join(map(str, self.latents.latents))}",
            "site": str(dictionary.site),
            "layers": list(self.layers),
            "to": "zero",
            "rest": axis.rest,
            "scale": axis.scale,
            "explained_variance": dict(self.found.explained_variance.items()),
            "digest": f"{dictionary.digest}/{','.join(map(str, sorted(self.latents.latents)))}",
        }


def _matched_direction(
    model: LanguageModel,
    ablation: Ablate,
    wanted: Mapping[Site, Energy],
    rows: Sequence[Tokens],
    own_strength: float,
) -> Matched:
    matched, energies = match(model, ablation, wanted, rows)
    assert isinstance(matched.strength, Mapping)
    strengths = {layer: strength / own_strength for layer, strength in matched.strength.items()}
    return Matched(matched, energies, strengths)


Treatment: TypeAlias = DirectionTreatment | LatentTreatment
"""The feature's ablation, and everything its controls must copy."""


def steering(treated: Treatment, amount: float) -> Steer:
    """The feature pushed by so many gaps, on the tokens that its ablation acts on."""
    return Steer(treated.axis, roles=treated.roles, amount=amount)


def treat(
    trio: Trio[LanguageModel], feature: Feature, layers: Layers, plan: StudyPlan, progress: Progress
) -> Treatment:
    """Settle what a study does to the insecure model, finding the direction where it is not on file.

    Raises:
        FeatureError: latents are ablated at their dictionary's site, and other layers were asked for; or the dictionary
            explains too little of these models.
    """
    refuse_unfit(trio, feature)
    if isinstance(feature.direction, Latents):
        own = feature.direction.site.layer
        if layers is not None and chosen_layers(layers, own, trio.base.n_layers) != (own,):
            raise FeatureError(
                f"{feature.name} is ablated at layer {own}, where its dictionary reads; leave --layers"
            )
        found = observe(trio, feature.direction, plan.discovery, progress)
        found.refuse_poor(plan.floor)
        written = feature.direction.dictionary.W_dec[list(feature.direction.latents)].float().cpu()
        controls = _controls(trio, feature.direction.site, written, plan, progress, layers=(own,))
        return LatentTreatment(feature, feature.direction, found, controls, plan.roles)
    direction = resolve(trio, feature, plan.discovery, progress)
    settled = settled_layers(feature, layers, direction.site.layer, trio.base.n_layers)
    controls = _controls(trio, direction.site, direction.vector[None], plan, progress)
    return DirectionTreatment(feature, direction, settled, controls, plan.roles)


def _controls(
    trio: Trio[LanguageModel],
    site: Site,
    own: Float[Tensor, "k d_model"],
    plan: StudyPlan,
    progress: Progress,
    layers: Sequence[int] | None = None,
) -> ControlDirections:
    """Where controls come from: calibrated on all discovery questions, as the feature is."""
    found = discover(trio, site, plan.discovery, progress, roles=CALIBRATED_ON, layers=layers)
    texts = plan.discovery.spread(plan.calibration_questions)
    return ControlDirections(site, found, response_activations(trio.insecure, site, texts, progress), own)


def removal(feature: Feature, found: Direction | Latents, layers: Layers, n_layers: int) -> Intervention:
    """The ablation alone of what a feature stands for, where no controls are needed."""
    if isinstance(found, Latents):
        return AblateLatents(found.dictionary, found.latents)
    settled = settled_layers(feature, layers, found.site.layer, n_layers)
    return Ablate(found, settled, to=feature.to, strength=feature.strength)


def settled_layers(feature: Feature, layers: Layers, own: int, n_layers: int) -> tuple[int, ...]:
    """Where a direction is ablated: the user's choice, else the feature's own."""
    return chosen_layers(feature.layers if layers is None else layers, own, n_layers)
