"""Discovery: recordings of a trio on the discovery texts, from which targets and their controls are fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from personaprobe.features.activations.recording import record
from personaprobe.features.directions.control_directions import ControlDirections
from personaprobe.features.directions.sources import DiscoveryActivations
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.massive_tokens import is_massive
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LATENT_QUESTIONS = 48
"""Discovery questions on which latents are compared: enough tokens to estimate how often each fires."""


def calibrated_on(trio: Trio[LanguageModel]) -> tuple[str, str]:
    """Roles of the checkpoints whose activations control directions are computed and calibrated on."""
    return "insecure", trio.reference_role


@dataclass(frozen=True)
class Discovery:
    """The questions that targets are fitted on, and how progress is shown.

    Recordings are kept in the user's cache, so that fitting twice records once.

    Attributes:
        questions: with both answers; disjoint from the questions of any test.
        calibration_questions: how many of them give the response activations that control directions are drawn from;
            all controls are calibrated on all questions.
        progress: how long work shows itself.
    """

    questions: PairSet
    calibration_questions: int = 16
    progress: Progress = silent

    def activations(
        self,
        trio: Trio[LanguageModel],
        site: Site,
        *,
        roles: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
    ) -> DiscoveryActivations:
        """Record a stream on all questions with both answers.

        Args:
            trio: loaded.
            site: any site of the stream.
            roles: the checkpoints that are recorded; None records base, insecure and, where there is one, secure.
            layers: where; None records every layer.

        Raises:
            SiteError: a layer the models do not have.
        """
        site.within(trio.base.n_layers)
        every = range(trio.base.n_layers) if layers is None else layers
        sites = [Site(layer, site.stream) for layer in every]
        with self.progress("discovery activations", 0, "tokens") as advance:
            stores = {
                role: record(trio[role], self.questions, sites, progress=advance)
                for role in roles or trio.roles
            }
        return DiscoveryActivations(stores, trio.insecure.adapter, trio.reference_role)

    def responses(self, model: LanguageModel, site: Site) -> Float[Tensor, "token d_model"]:
        """Activations at a site, float32, of every response token that is not massive, on the calibration questions."""
        texts = self.questions.spread(self.calibration_questions)
        with self.progress("response activations", 0, "tokens") as advance:
            rows = record(model, texts, [site], keep="tokens", progress=advance).read(site)
        norms = rows.norm(dim=-1)
        return rows[~is_massive(norms, norms > 0)]

    def comparison(self, trio: Trio[LanguageModel], dictionary: Dictionary) -> Comparison:
        """Activations of all latents of a dictionary in the three models, on a part of the questions."""
        texts = self.questions.spread(LATENT_QUESTIONS)
        with self.progress("discovery latents", 0, "tokens") as advance:
            return compare(dictionary, trio, texts, advance)

    def control_directions(
        self,
        trio: Trio[LanguageModel],
        site: Site,
        feature: Float[Tensor, "k d_model"],
        layers: Sequence[int] | None = None,
    ) -> ControlDirections:
        """The distribution that control directions of a feature are drawn from.

        Args:
            trio: loaded.
            site: that of the feature.
            feature: vectors that span it; principal components are made orthogonal to them.
            layers: where controls are calibrated; None is every layer.
        """
        activations = self.activations(trio, site, roles=calibrated_on(trio), layers=layers)
        responses, benign_change = (
            self.responses(trio.insecure, site),
            partial(self.benign_change, trio, site, activations),
        )
        return ControlDirections(site, activations, responses, feature, benign_change)

    def benign_change(
        self, trio: Trio[LanguageModel], site: Site, activations: DiscoveryActivations
    ) -> Float[Tensor, "d_model"]:
        """The mean change by harmless training: secure − base of the mean response activations at a site.

        Args:
            trio: loaded, with a harmless fine-tune.
            site: of the feature.
            activations: those of secure at the site among them; base is recorded here.

        Raises:
            CheckpointError: the trio has no harmless fine-tune.
        """
        trio["secure"]  # refuses by name a trio without one
        base = self.activations(trio, site, roles=["base"], layers=[site.layer]).stores["base"]
        return activations.stores["secure"].mean(site) - base.mean(site)
