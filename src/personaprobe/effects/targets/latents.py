"""Latents of a dictionary as targets: their contribution is subtracted, at the dictionary's site."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.effects.interventions.along_direction import Ablate, Layers, chosen_layers
from personaprobe.effects.interventions.energy import measure
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.effects.targets.controls import MatchedControl, MeasuredAblation, matched_direction
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.target import Activity, FittedTarget, Target
from personaprobe.errors import FeatureError
from personaprobe.features.directions.control_directions import ControlDirections, ControlKind
from personaprobe.features.directions.direction import Direction
from personaprobe.features.registry.registry import entry_fields
from personaprobe.features.sae.catalog import find_dictionary
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import Comparison
from personaprobe.features.sae.diffing.matched_controls import matched_latents, shuffled_latents
from personaprobe.features.sae.latent_spelling import match_latents
from personaprobe.features.sae.latents import Latents
from personaprobe.features.sae.quality import refuse_unfit_dictionary
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class LatentsTarget(Target):
    """Some latents of a dictionary, ablated together.

    Attributes:
        latents: with their dictionary.
    """

    latents: Latents
    default_layers: Layers = field(default=None, init=False)

    @cached_property
    def site(self) -> Site:  # type: ignore[override]  # frozen, as all values
        return self.latents.site

    def __str__(self) -> str:
        return repr(self.latents)

    def refuse_unfit(self, trio: Trio[LanguageModel]) -> None:
        super().refuse_unfit(trio)
        refuse_unfit_dictionary(self.latents.dictionary, trio.base)

    def fit(self, trio: Trio[LanguageModel], discovery: Discovery | None = None) -> FittedLatents:
        self.refuse_unfit(trio)
        return FittedLatents(self.latents, trio, discovery)

    def activity(self) -> Activity:
        """The norm of what each latent writes, summed over the latents."""
        dictionary, latents = self.latents.dictionary, self.latents.latents
        norms = dictionary.row_norms[list(latents)]

        def read(activations: Float[Tensor, "row d_model"]) -> Float[Tensor, "row"]:
            acts = dictionary.on(activations.device).encode_latents(activations, latents)
            written: Tensor = acts @ norms.to(acts.device)
            return written

        return Activity(
            self.site, "activation times the norm of the decoder row, summed", self.latents.digest, read
        )

    @classmethod
    def parse(cls, name: str) -> LatentsTarget | None:
        """Read ``sae:NAME/812,77``, where NAME is a shipped dictionary or a folder."""
        sae, indices = match_latents(name) or (None, ())
        return None if sae is None else cls(Latents(find_dictionary(sae), indices))

    @classmethod
    def from_entry(cls, name: str, entry: dict[str, Any], folder: Path) -> LatentsTarget | None:
        if "sae" not in entry:
            return None
        fields = entry_fields(name, entry)
        fields.refuse_unknown(("title", "evidence", "sae", "dictionary", "latents"))
        sae, latents = fields.text("sae"), fields.integers("latents")
        dictionary = find_dictionary(sae)
        if dictionary.digest != fields.text("dictionary"):
            raise FeatureError(
                f"the dictionary {sae} is not the one {name!r} was registered with; restore it"
            )
        return cls(Latents(dictionary, latents))

    def to_entry(self, name: str, folder: Path) -> dict[str, Any]:
        """The fields of the entry; the dictionary itself is found by its name."""
        dictionary = self.latents.dictionary
        return {
            "sae": dictionary.name,
            "dictionary": dictionary.digest,
            "latents": list(self.latents.latents),
        }


@dataclass(frozen=True, eq=False)
class FittedLatents(FittedTarget):
    """Latents in one trio. All latents of the dictionary are compared on the discovery texts when that is first needed.

    Attributes:
        latents: with their dictionary.
        trio: loaded.
        discovery: on which latents are compared; None where only the ablation is needed.
    """

    latents: Latents
    trio: Trio[LanguageModel]
    discovery: Discovery | None = None

    @property
    def _dictionary(self) -> Dictionary:
        return self.latents.dictionary

    @cached_property
    def site(self) -> Site:  # type: ignore[override]  # frozen, as all values
        return self.latents.site

    @cached_property
    def axis(self) -> Direction:  # type: ignore[override]  # frozen, as all values
        """The mean difference of what the latents write in insecure and in secure."""
        return self.latents.axis(self._comparison)

    @cached_property
    def _comparison(self) -> Comparison:
        return self._needed_discovery.comparison(self.trio, self._dictionary)

    @cached_property
    def _control_directions(self) -> ControlDirections:
        written = self._dictionary.W_dec[list(self.latents.latents)].float().cpu()
        layers = (self.site.layer,)
        return self._needed_discovery.control_directions(self.trio, self.site, written, layers)

    @property
    def _needed_discovery(self) -> Discovery:
        if self.discovery is None:
            raise FeatureError(
                f"{self.latents.name} is compared on discovery texts before it is steered along or controlled; fit the "
                "target to some"
            )
        return self.discovery

    def refuse_poor(self, floor: float) -> None:
        """Raise where the dictionary explains less than ``floor`` of the variance of some checkpoint."""
        self._comparison.refuse_poor(floor)

    def chosen_layers(self, layers: Layers = None) -> tuple[int, ...]:
        """The dictionary's own layer.

        Raises:
            FeatureError: other layers were chosen.
        """
        layer = self.site.layer
        if layers is not None and chosen_layers(layers, layer, self.trio.base.n_layers) != (layer,):
            raise FeatureError(
                f"{self.latents.name} is ablated at layer {layer}, where its dictionary reads; leave --layers"
            )
        return (layer,)

    def ablation(
        self, layers: Layers = None, coefficient: float = 1.0, roles: Role = Role.ALL
    ) -> AblateLatents:
        """The contribution of the latents subtracted."""
        self.chosen_layers(layers)
        return AblateLatents(self._dictionary, self.latents.latents, coefficient, roles=roles)

    def control(self, kind: ControlKind, seed: int, feature: MeasuredAblation) -> MatchedControl:
        """As many other latents that fire as often, or that rank first with shuffled labels; or a direction at the
        dictionary's site."""
        roles = feature.ablation.roles
        if kind in {"covariance", "component", "benign"}:
            return matched_direction(Ablate(self._control_directions.draw(kind, seed), roles=roles), feature)
        draw = matched_latents if kind == "random" else shuffled_latents
        others = draw(self._comparison, self.latents.latents, seed)
        control = AblateLatents(self._dictionary, others, roles=roles)
        matched = control.matched(feature.model, feature.energies[self.site], feature.rows)
        energies = measure(feature.model, matched, feature.rows)
        return MatchedControl(matched, energies, {self.site.layer: matched.coefficient})

    def control_along(self, direction: Direction, feature: MeasuredAblation) -> MatchedControl:
        """A given direction, ablated at the dictionary's site."""
        control = Ablate(self._control_directions.calibrate(direction), roles=feature.ablation.roles)
        return matched_direction(control, feature)

    def describe(self, layers: Layers = None) -> dict[str, Any]:
        """Dictionary, latents and calibration."""
        dictionary, latents = self._dictionary, self.latents.latents
        return {
            "source": f"sae:{dictionary.name}/{','.join(map(str, latents))}",
            "site": str(dictionary.site),
            "layers": list(self.chosen_layers(layers)),
            "to": "zero",
            "rest": self.axis.reference,
            "scale": self.axis.gap,
            "explained_variance": dict(self._comparison.explained_variance.items()),
            "digest": self.latents.digest,
        }
