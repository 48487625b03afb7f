"""Recipes as targets: a source at a site, such as ``means@16``, computed on the trio under study."""

from __future__ import annotations

import re
from dataclasses import dataclass

from personaprobe.effects.interventions.along_direction import Layers
from personaprobe.effects.targets.direction import DirectionTarget, FittedDirection
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.target import Target
from personaprobe.errors import FeatureError
from personaprobe.features.directions.sources import SOURCES, find_direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site

_SPELLING = re.compile(r"(?P<source>[\w-]+)@(?P<layer>\d+)(?:\.(?P<stream>\w+))?(?::(?P<seed>\d+))?")


@dataclass(frozen=True)
class RecipeTarget(Target):
    """A way to compute a direction that is not on file.

    Attributes:
        source: a name in :data:`~personaprobe.features.directions.sources.SOURCES`.
        site: where it is computed.
        seed: of seeded sources.
        default_layers: where the direction is ablated by default.
    """

    source: str
    site: Site
    seed: int = 0
    default_layers: Layers = "all"

    def fit(self, trio: Trio[LanguageModel], discovery: Discovery | None = None) -> FittedDirection:
        self.refuse_unfit(trio)
        if discovery is None:
            raise FeatureError(
                f"{self.source}@{self.site.layer} would be fitted to each seed anew; give a registered feature, latents, "
                "or a direction file"
            )
        activations = discovery.activations(trio, self.site)
        direction = find_direction(activations, self.source, self.site, self.seed)
        return DirectionTarget(direction, self.default_layers).fit(trio, discovery)

    @classmethod
    def parse(cls, name: str) -> RecipeTarget | None:
        """Read ``SOURCE@LAYER``, ``SOURCE@LAYER.STREAM`` or either with ``:SEED``."""
        spelled = _SPELLING.fullmatch(name)
        if spelled is None or spelled["source"] not in SOURCES:
            return None
        site = Site.parse(f"{spelled['layer']}.{spelled['stream'] or 'resid_post'}")
        return cls(spelled["source"], site, int(spelled["seed"] or 0))
