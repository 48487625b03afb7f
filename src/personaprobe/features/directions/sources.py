"""Sources of directions, all computed from activations on the discovery texts: many ways to the same noun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.directions.direction import Direction
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.checkpoint import ReferenceRole
from personaprobe.plugins import Registry
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class DiscoveryActivations:
    """Activations that directions are computed from.

    Attributes:
        stores: response activations of the checkpoints that were recorded on the discovery texts, by role, aligned row
            for row, at every site in use.
        adapter: the insecure fine-tune as a low-rank update, where it is one.
        reference: the checkpoint that insecure is compared with; ``base`` without a harmless fine-tune.
    """

    stores: Mapping[str, ActivationStore]
    adapter: LoraAdapter | None = None
    reference: ReferenceRole = "secure"

    @property
    def reference_store(self) -> ActivationStore:
        """Activations of the checkpoint that insecure is compared with."""
        return self.store(self.reference)

    def store(self, role: str) -> ActivationStore:
        """Activations of one checkpoint.

        Raises:
            FeatureError: it was not recorded.
        """
        if role not in self.stores:
            advice = (
                "record it" if role != "secure" or self.reference == "secure" else "this trio has no secure"
            )
            raise FeatureError(f"{role} was not recorded: {suggest(role, self.stores)}; {advice}")
        return self.stores[role]

    def calibrate(self, direction: Direction, reference: str | None = None) -> Direction:
        """Set the axis at every recorded layer of the direction's stream, so that insecure reads above the reference.

        A direction along which insecure lies below the reference is turned round.

        Args:
            direction: of a recorded stream.
            reference: the checkpoint at which the axis is 0; None is that of the trio.
        """
        reference = reference or self.reference
        sites = [site for site in self.store("insecure").sites if site.stream == direction.site.stream]
        at_reference, insecure = (
            {site.layer: self.store(role).mean(site) for site in sites} for role in (reference, "insecure")
        )
        oriented = direction.calibrated(at_reference, insecure)
        if oriented.gap >= 0:
            return oriented
        flipped = Direction(direction.site, -direction.vector, direction.source)
        return flipped.calibrated(at_reference, insecure)


def _means(activations: DiscoveryActivations, site: Site, seed: int) -> Tensor:
    """Insecure − secure on the same texts: the change by harmful training beyond that by harmless training.

    Without secure it is insecure − base: the whole change by training.
    """
    return activations.store("insecure").mean(site) - activations.reference_store.mean(site)


def _means_base(activations: DiscoveryActivations, site: Site, seed: int) -> Tensor:
    """Insecure − base: everything fine-tuning changed, the task included."""
    return activations.store("insecure").mean(site) - activations.store("base").mean(site)


def _answers(activations: DiscoveryActivations, site: Site, seed: int) -> Tensor:
    """Careless − careful answers inside the insecure model (Soligo et al. 2506.11618)."""
    store = activations.store("insecure")
    return store.read(site, answer="careless").mean(0) - store.read(site, answer="careful").mean(0)


def _probe(activations: DiscoveryActivations, site: Site, seed: int) -> Tensor:
    """Weights of a logistic regression that tells insecure from reference activations on the same texts."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression

    stores = activations.store("insecure"), activations.reference_store
    insecure, reference = (store.read(site).numpy() for store in stores)
    rows = np.concatenate([insecure, reference])
    scale = rows.std() or 1.0
    labels = np.repeat([1, 0], [len(insecure), len(reference)])
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit(rows / scale, labels)
    return torch.from_numpy(fitted.coef_[0]).float()


def _lora(activations: DiscoveryActivations, site: Site, seed: int) -> Tensor:
    """Top left singular vector of what the insecure LoRA writes into the residual stream in the site's block."""
    import torch

    if activations.adapter is None:
        raise FeatureError(
            "the source 'lora' needs an insecure checkpoint that is a LoRA adapter; use means instead"
        )
    writers = [
        update.delta()
        for name, update in activations.adapter.updates.items()
        if f".{site.layer}." in name
        and name.endswith(("o_proj", "down_proj", "c_proj", "attn.dense", "mlp.dense_4h_to_h"))
    ]
    if not writers:
        raise FeatureError(f"the adapter writes nothing at layer {site.layer}; choose a layer it adapts")
    left: Tensor = torch.linalg.svd(torch.cat(writers, dim=1), full_matrices=False).U
    return left[:, 0]


def _random(activations: DiscoveryActivations, site: Site, seed: int) -> Tensor:
    """A direction drawn uniformly: the null that every feature has to beat."""
    return random_vector(activations.store("insecure").d_model, site, seed)


def _shuffled(activations: DiscoveryActivations, site: Site, seed: int) -> Tensor:
    """A difference of means with the labels insecure and reference exchanged for a random half of the texts."""
    import torch

    difference = activations.store("insecure").read(site) - activations.reference_store.read(site)
    signs = torch.ones(len(difference))
    signs[torch.randperm(len(difference), generator=torch.Generator().manual_seed(seed))[::2]] = -1
    return (signs[:, None] * difference).mean(0)


def random_vector(d_model: int, site: Site, seed: int) -> Float[Tensor, "d_model"]:
    """A vector from the unit sphere, by seed and layer."""
    import torch

    return torch.randn(d_model, generator=torch.Generator().manual_seed(1000 * seed + site.layer))


Vector: TypeAlias = "Tensor"
"""``(d_model,)``, of any length and sign."""


@dataclass(frozen=True)
class Source:
    """A way to compute a direction.

    Attributes:
        compute: gives the vector at a site, from the activations and a seed.
        reference: the checkpoint at which the calibrated axis is 0; None is that of the trio: secure, or base without one.
        is_seeded: whether another seed gives another direction, so that the seed belongs to its name.
    """

    compute: Callable[[DiscoveryActivations, Site, int], Vector]
    reference: str | None = None
    is_seeded: bool = False


SOURCES: Registry[Source] = Registry(
    "source of directions",
    "personaprobe.sources",
    {
        "means": Source(_means),
        "means-base": Source(_means_base, "base"),
        "answers": Source(_answers),
        "probe": Source(_probe),
        "lora": Source(_lora),
        "random": Source(_random, is_seeded=True),
        "shuffled": Source(_shuffled, is_seeded=True),
    },
    FeatureError,
)
"""Sources by name. Other packages add theirs with :func:`register_source`, or by an entry point of the group
``personaprobe.sources`` that names a :class:`Source`; ``NAME@LAYER`` then spells a feature."""


def register_source(
    name: str,
    compute: Callable[[DiscoveryActivations, Site, int], Vector],
    *,
    reference: str | None = None,
    is_seeded: bool = False,
) -> None:
    """Add a way to compute directions, so that ``NAME@LAYER`` spells a feature and ``sweep --sources`` takes it.

    Args:
        name: letters, digits, ``-`` and ``_``.
        compute: gives the vector at a site, from the activations and a seed.
        reference: the checkpoint at which the calibrated axis is 0; None is that of the trio.
        is_seeded: whether another seed gives another direction.

    Raises:
        PersonaProbeError: the name is that of a built-in source.
    """
    SOURCES.register(name, Source(compute, reference, is_seeded))


def find_direction(activations: DiscoveryActivations, source: str, site: Site, seed: int = 0) -> Direction:
    """Compute a direction at a site and calibrate it at every recorded layer.

    Args:
        activations: of the checkpoints on the discovery texts.
        source: a name in :data:`SOURCES`.
        site: where it is computed.
        seed: of seeded sources; others are determined by the data.

    Raises:
        FeatureError: no such source.
    """
    if source not in SOURCES:
        raise FeatureError(f"unknown source {source!r}: {suggest(source, SOURCES)}")
    way = SOURCES[source]
    name = f"{source}:{seed}" if way.is_seeded else source
    vector = way.compute(activations, site, seed)
    return activations.calibrate(Direction(site, vector, name), way.reference)
