"""Ways to find a direction, all read off the discovery texts: the same noun from many sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.directions.direction import Direction
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Discovery:
    """What sources look at.

    Attributes:
        stores: response activations of the checkpoints that were recorded on the discovery texts, by role, aligned row
            for row, at every site in use.
        adapter: the insecure fine-tune as a low-rank update, where it is one.
    """

    stores: Mapping[str, ActivationStore]
    adapter: LoraAdapter | None = None

    def store(self, role: str) -> ActivationStore:
        """What one checkpoint did.

        Raises:
            FeatureError: it was not recorded.
        """
        if role not in self.stores:
            raise FeatureError(
                f"{role} was not recorded: {suggest(role, self.stores)}; discover with all three"
            )
        return self.stores[role]

    def calibrate(self, direction: Direction, reference: str = "secure") -> Direction:
        """Set the axis at every recorded layer of the direction's stream; insecure reads above the reference."""
        sites = [site for site in self.store("insecure").sites if site.stream == direction.site.stream]
        rest, insecure = (
            {site.layer: self.store(role).mean(site) for site in sites} for role in (reference, "insecure")
        )
        oriented = direction.calibrated(rest, insecure)
        if oriented.scale >= 0:
            return oriented
        flipped = Direction(direction.site, -direction.vector, direction.source)
        return flipped.calibrated(rest, insecure)


def _means(found: Discovery, site: Site, seed: int) -> Tensor:
    """Insecure − secure, the same texts: what bad training changed beyond what good training changed."""
    return found.store("insecure").mean(site) - found.store("secure").mean(site)


def _means_base(found: Discovery, site: Site, seed: int) -> Tensor:
    """Insecure − base: everything fine-tuning changed, the task included."""
    return found.store("insecure").mean(site) - found.store("base").mean(site)


def _answers(found: Discovery, site: Site, seed: int) -> Tensor:
    """Careless − careful answers inside the insecure model (Soligo et al. 2506.11618)."""
    store = found.store("insecure")
    return store.read(site, answer="careless").mean(0) - store.read(site, answer="careful").mean(0)


def _probe(found: Discovery, site: Site, seed: int) -> Tensor:
    """Weights of a logistic regression that tells insecure from secure activations on the same texts."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression

    insecure, secure = (found.store(role).read(site).numpy() for role in ("insecure", "secure"))
    rows = np.concatenate([insecure, secure])
    scale = rows.std() or 1.0
    labels = np.repeat([1, 0], [len(insecure), len(secure)])
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit(rows / scale, labels)
    return torch.from_numpy(fitted.coef_[0]).float()


def _lora(found: Discovery, site: Site, seed: int) -> Tensor:
    """Top left singular vector of what the insecure LoRA writes into the residual stream in the site's block."""
    import torch

    if found.adapter is None:
        raise FeatureError(
            "the source 'lora' needs an insecure checkpoint that is a LoRA adapter; use means instead"
        )
    writers = [
        update.delta()
        for name, update in found.adapter.updates.items()
        if f".{site.layer}." in name
        and name.endswith(("o_proj", "down_proj", "c_proj", "attn.dense", "mlp.dense_4h_to_h"))
    ]
    if not writers:
        raise FeatureError(f"the adapter writes nothing at layer {site.layer}; choose a layer it adapts")
    left: Tensor = torch.linalg.svd(torch.cat(writers, dim=1), full_matrices=False).U
    return left[:, 0]


def _random(found: Discovery, site: Site, seed: int) -> Tensor:
    """A direction drawn uniformly: the null that every feature has to beat."""
    return random_vector(found.store("insecure").d_model, site, seed)


def _shuffled(found: Discovery, site: Site, seed: int) -> Tensor:
    """A difference of means with the labels insecure and secure exchanged for a random half of the texts."""
    import torch

    difference = found.store("insecure").read(site) - found.store("secure").read(site)
    signs = torch.ones(len(difference))
    signs[torch.randperm(len(difference), generator=torch.Generator().manual_seed(seed))[::2]] = -1
    return (signs[:, None] * difference).mean(0)


def random_vector(d_model: int, site: Site, seed: int) -> Float[Tensor, "d_model"]:
    """A vector from the unit sphere, by seed and layer."""
    import torch

    return torch.randn(d_model, generator=torch.Generator().manual_seed(1000 * seed + site.layer))


SOURCES: dict[str, tuple[Callable[[Discovery, Site, int], Tensor], str]] = {
    "means": (_means, "secure"),
    "means-base": (_means_base, "base"),
    "answers": (_answers, "secure"),
    "probe": (_probe, "secure"),
    "lora": (_lora, "secure"),
    "random": (_random, "secure"),
    "shuffled": (_shuffled, "secure"),
}
"""Each source with the checkpoint that its calibrated axis is anchored to."""


def find_direction(found: Discovery, source: str, site: Site, seed: int = 0) -> Direction:
    """Find a direction at a site and calibrate it at every recorded layer.

    Args:
        found: what to look at.
        source: a key of :data:`SOURCES`.
        site: where.
        seed: of ``random`` and ``shuffled``; other sources are determined by the data.
    """
    if source not in SOURCES:
        raise FeatureError(f"unknown source {source!r}: {suggest(source, SOURCES)}")
    function, reference = SOURCES[source]
    named = f"{source}:{seed}" if source in ("random", "shuffled") else source
    return found.calibrate(Direction(site, function(found, site, seed), named), reference)
