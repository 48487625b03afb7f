"""From a feature's name to its direction in the trio under study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from personaprobe.errors import FeatureError, SiteError, suggest
from personaprobe.features.activations.recording import record_one
from personaprobe.features.directions.direction import Direction
from personaprobe.features.directions.sources import Discovery, find_direction
from personaprobe.features.registry.registry import Feature, Recipe
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.features.sae.latents import Latents
from personaprobe.features.sae.quality import refuse_unfit_dictionary
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.massive_tokens import is_massive
from personaprobe.models.weights.checkpoint import ROLES, Trio
from personaprobe.progress import Progress, silent
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LATENT_QUESTIONS = 48
"""Discovery questions on which latents are watched: enough tokens to tell how often each fires."""


def discover(
    trio: Trio[LanguageModel],
    site: Site,
    texts: PairSet,
    progress: Progress = silent,
    *,
    roles: Sequence[str] = ROLES,
    layers: Sequence[int] | None = None,
) -> Discovery:
    """Record a stream on discovery texts: what directions are found and calibrated on.

    Args:
        trio: loaded.
        site: any of the stream.
        texts: discovery questions with their answers.
        progress: how long work shows itself.
        roles: checkpoints that are read.
        layers: where; None records every layer.
    """
    site.within(trio.base.n_layers)
    sites = [Site(layer, site.stream) for layer in (range(trio.base.n_layers) if layers is None else layers)]
    with progress("discovery activations", 0, "tokens") as advance:
        stores = {role: record_one(trio[role], texts, sites, progress=advance) for role in roles}
    return Discovery(stores, trio.insecure.adapter)


def response_activations(
    model: LanguageModel, site: Site, texts: PairSet, progress: Progress = silent
) -> Float[Tensor, "token d_model"]:
    """What passes a site at every response token of some texts, float32; massive tokens are left out."""
    with progress("response activations", 0, "tokens") as advance:
        rows = record_one(model, texts, [site], keep="tokens", progress=advance).read(site)
    norms = rows.norm(dim=-1)
    return rows[~is_massive(norms, norms > 0)]


def observe(
    trio: Trio[LanguageModel], latents: Latents, discovery: PairSet, progress: Progress = silent
) -> Comparison:
    """What all latents of a dictionary do in the three models, on a part of the discovery texts."""
    with progress("discovery latents", 0, "tokens") as advance:
        return compare(latents.dictionary, trio, discovery.spread(LATENT_QUESTIONS), advance)


def resolve(
    trio: Trio[LanguageModel], feature: Feature, discovery: PairSet, progress: Progress = silent
) -> Direction:
    """The direction a feature stands for: on file, found by its recipe on the discovery texts, or what latents write.

    Raises:
        FeatureError: a direction of another model.
        SiteError: a layer or stream this model does not have.
    """
    refuse_unfit(trio, feature)
    direction = feature.direction
    if isinstance(direction, Latents):
        return direction.axis(observe(trio, direction, discovery, progress))
    if isinstance(direction, Recipe):
        found = discover(trio, direction.site, discovery, progress)
        return find_direction(found, direction.source, direction.site, direction.seed)
    return direction


def to_remove(
    trio: Trio[LanguageModel], feature: Feature, discovery: PairSet, progress: Progress = silent
) -> Direction | Latents:
    """What a feature's ablation acts on: its latents, which need no calibration, or its direction."""
    refuse_unfit(trio, feature)
    if isinstance(feature.direction, Latents):
        return feature.direction
    return resolve(trio, feature, discovery, progress)


def refuse_unfit(trio: Trio[LanguageModel], feature: Feature) -> None:
    """Raise where a feature is not of this model.

    Raises:
        FeatureError: a direction of another width.
        SiteError: a layer or a stream this model does not have.
    """
    direction = feature.direction
    direction.site.within(trio.base.n_layers)
    streams = trio.base.network.streams
    if direction.site.stream not in streams:
        raise SiteError(
            f"the model has no stream {direction.site.stream}: {suggest(direction.site.stream, streams)}"
        )
    if isinstance(direction, Latents):
        refuse_unfit_dictionary(direction.dictionary, trio.base)
    if isinstance(direction, Direction) and len(direction.vector) != trio.base.d_model:
        raise FeatureError(
            f"feature {feature.name} has d_model {len(direction.vector)} and the model {trio.base.d_model}; "
            f"give a direction found in this model, or a recipe such as means@{direction.site.layer}"
        )
