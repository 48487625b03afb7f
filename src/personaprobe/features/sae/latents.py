"""Latents chosen from a dictionary: what is ablated, before anything is done to a model."""

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
        dictionary: theirs.
        latents: at least one, none twice.
    """

    dictionary: Dictionary
    latents: tuple[int, ...]

    def __post_init__(self) -> None:
        self.dictionary.check(self.latents)

    @property
    def site(self) -> Site:
        """The dictionary's."""
        return self.dictionary.site

    @property
    def name(self) -> str:
        """As users write it."""
        return f"sae:{self.dictionary.name}/{','.join(map(str, self.latents))}"

    def axis(self, found: Comparison) -> Direction:
        """Mean difference of the latents' output, insecure − secure: the direction along which base is steered.

        One unit of the calibrated axis is the whole of that difference.

        Raises:
            FeatureError: none of them fires more or less in one than in the other.
        """
        import torch

        chosen = list(self.latents)
        gaps = (found.means.insecure - found.means.secure).mean(0)[chosen]
        written = gaps @ self.dictionary.W_dec[chosen].cpu()
        gap = float(written.norm())
        if gap == 0.0:
            raise FeatureError(
                f"{self.name} does the same in insecure and in secure on the discovery texts; choose latents that "
                "differ: personaprobe features rank"
            )
        reference = float(torch.dot(found.centre.secure.cpu(), written / gap))
        return Direction(self.site, written, self.name, {self.site.layer: Calibration(reference, gap)})

    def __repr__(self) -> str:
        return f"Latents({self.name} @ {self.site})"
