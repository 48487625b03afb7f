"""Chosen latents of a dictionary, and the direction of their contribution to insecure − secure."""

from __future__ import annotations

from dataclasses import dataclass

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import Comparison
from personaprobe.site import Site


@dataclass(frozen=True)
class Latents:
    """Some latents of a dictionary.

    Attributes:
        dictionary: that holds them.
        latents: at least one, each once.
    """

    dictionary: Dictionary
    latents: tuple[int, ...]

    def __post_init__(self) -> None:
        self.dictionary.check(self.latents)

    @property
    def site(self) -> Site:
        """The site of the dictionary."""
        return self.dictionary.site

    @property
    def name(self) -> str:
        """The spelling ``sae:NAME/812,77``."""
        return f"sae:{self.dictionary.name}/{','.join(map(str, self.latents))}"

    @property
    def digest(self) -> str:
        """Identity by content: the dictionary's, and the latents in rising order."""
        return f"{self.dictionary.digest}/{','.join(map(str, sorted(self.latents)))}"

    def axis(self, comparison: Comparison) -> Direction:
        """The mean contribution of the latents to insecure − secure (− base without secure), as a calibrated direction.

        One unit along it is the whole difference. Base is steered along it.

        Args:
            comparison: activity on the discovery questions.

        Raises:
            FeatureError: no latent differs between insecure and the reference.
        """
        import torch

        chosen = list(self.latents)
        gaps = (comparison.means.insecure - comparison.means.reference).mean(0)[chosen]
        contribution = gaps @ self.dictionary.W_dec[chosen].cpu()
        gap = float(contribution.norm())
        if gap == 0.0:
            raise FeatureError(
                f"{self.name} does the same in insecure and in {comparison.means.reference_role} on the discovery texts; "
                "choose latents that differ: personaprobe features rank"
            )
        reference = float(torch.dot(comparison.centre.reference.cpu(), contribution / gap))
        return Direction(self.site, contribution, self.name, {self.site.layer: Calibration(reference, gap)})

    def __repr__(self) -> str:
        return f"Latents({self.name} @ {self.site})"
