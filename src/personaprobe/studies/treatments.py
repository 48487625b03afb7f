"""What is done to the insecure model, and what its controls must copy: an ablation along a direction, or of latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from personaprobe.effects.energy import Energy, match, measure
from personaprobe.effects.interventions import Ablate, Intervention, Layers, chosen_layers
from personaprobe.effects.latents import AblateLatents
from personaprobe.errors import FeatureError
from personaprobe.features.directions import Direction
from personaprobe.features.registry import Feature
from personaprobe.features.sae.diffing import Comparison
from personaprobe.features.sae.latents import Latents
from personaprobe.features.sae.matching import matched_latents, shuffled_latents
from personaprobe.features.sources import Discovery, find_direction
from personaprobe.models.checkpoint import Trio
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.site import Site
from personaprobe.studies.plan import StudyPlan
from personaprobe.studies.progress import Progress
from personaprobe.studies.resolving import discover, observe, refuse_unfit, resolve

Matched = tuple[Intervention, Mapping[Site, Energy]]
"""A control at the strength that removes the wanted energy, and what it then removes."""


@dataclass(frozen=True)
class DirectionTreatment:
    """Ablation along a direction, at every layer it is asked for.

    Attributes:
        feature: as it was named.
        direction: calibrated at every layer it is ablated at.
        layers: where it is ablated.
        found: activations of the calibration texts, which controls are calibrated on.
    """

    feature: Feature
    direction: Direction
    layers: tuple[int, ...]
    found: Discovery

    @property
    def axis(self) -> Direction:
        """The direction itself."""
        return self.direction

    def ablation(self, strength: float = 1.0) -> Ablate:
        """The projection moved to the target at every layer, as far as the feature says."""
        feature = self.feature
        return Ablate(self.direction, self.layers, to=feature.to, strength=strength * feature.strength)

    def control(
        self,
        model: LanguageModel,
        source: str,
        seed: int,
        wanted: Mapping[Site, Energy],
        rows: Sequence[Tokens],
    ) -> Matched:
        """A direction from another source, ablated at the same layers."""
        direction = find_direction(self.found, source, self.direction.site, seed)
        return match(model, replace(self.ablation(), direction=direction), wanted, rows)

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
        found: what all its latents do on the calibration texts, which controls are drawn from.
    """

    feature: Feature
    latents: Latents
    found: Comparison

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
        return AblateLatents(self.latents.dictionary, self.latents.latents, strength)

    def control(
        self,
        model: LanguageModel,
        source: str,
        seed: int,
        wanted: Mapping[Site, Energy],
        rows: Sequence[Tokens],
    ) -> Matched:
        """As many other latents that fire as often, or that rank first where labels mean nothing."""
        choose = matched_latents if source == "random" else shuffled_latents
        control = replace(self.ablation(), latents=choose(self.found, self.latents.latents, seed))
        matched = control.matched(model, wanted[self.latents.site].removed, rows)
        return matched, measure(model, matched, rows)

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


Treatment: TypeAlias = DirectionTreatment | LatentTreatment
"""The feature's ablation, and everything its controls must copy."""


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
        return LatentTreatment(feature, feature.direction, found)
    direction = resolve(trio, feature, plan.discovery, progress)
    settled = settled_layers(feature, layers, direction.site.layer, trio.base.n_layers)
    texts = plan.discovery.spread(plan.calibration_questions)
    return DirectionTreatment(feature, direction, settled, discover(trio, direction.site, texts, progress))


def removal(feature: Feature, found: Direction | Latents, layers: Layers, n_layers: int) -> Intervention:
    """The ablation alone of what a feature stands for, where no controls are needed."""
    if isinstance(found, Latents):
        return AblateLatents(found.dictionary, found.latents)
    settled = settled_layers(feature, layers, found.site.layer, n_layers)
    return Ablate(found, settled, to=feature.to, strength=feature.strength)


def settled_layers(feature: Feature, layers: Layers, own: int, n_layers: int) -> tuple[int, ...]:
    """Where a direction is ablated: the user's choice, else the feature's own."""
    return chosen_layers(feature.layers if layers is None else layers, own, n_layers)
