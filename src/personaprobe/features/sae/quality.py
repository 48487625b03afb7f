"""Quality of a dictionary on one checkpoint: explained variance, sparsity, dead latents, and the model's loss when it
reads the reconstruction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.reconstruction import ReconstructionStatistics
from personaprobe.models.edits.edit import Edit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role, Tokens
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

DENSE_RATE = 0.1
"""Firing rate above which a latent counts as dense: it says little about any single token."""

MIN_EXPLAINED_VARIANCE = 0.5
"""Explained variance below which a dictionary is refused, unless the user lowers the floor."""

RATE_EDGES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Edges of the histogram of firing rates."""


@dataclass(frozen=True)
class Quality:
    """Quality of a dictionary on one checkpoint.

    Attributes:
        explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖² over tokens.
        l0: active latents per token, on average.
        dead: share of latents that are active in no token.
        dense: share of latents that are active in more than a tenth of the tokens.
        loss: of the model, nats per token.
        loss_reconstructed: of the model with the site replaced by the reconstruction.
        loss_zeroed: of the model with the site replaced by the mean activation.
        loss_recovered: (zeroed − reconstructed) / (zeroed − loss); 1 is as good as the activations themselves.
        n_tokens: number of tokens that were measured.
    """

    explained_variance: float
    l0: float
    dead: float
    dense: float
    loss: float
    loss_reconstructed: float
    loss_zeroed: float
    loss_recovered: float
    n_tokens: int

    def to_dict(self) -> dict[str, float]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class MeasuredQuality:
    """Quality on one checkpoint with the firing rate of each latent (a share of tokens)."""

    quality: Quality
    firing_rates: Float[Tensor, "d_sae"]

    @property
    def histogram(self) -> tuple[int, ...]:
        """Number of latents that are never active, then those with a rate up to each of :data:`RATE_EDGES` but 0."""
        import torch

        bins = torch.bucketize(self.firing_rates, torch.tensor(RATE_EDGES))
        return tuple(torch.bincount(bins, minlength=len(RATE_EDGES)).tolist())


def measure_quality(dictionary: Dictionary, model: LanguageModel, texts: Sequence[Tokens]) -> MeasuredQuality:
    """Measure a dictionary on all tokens of some texts but each text's first.

    Raises:
        DataError: no texts.
        FeatureError: the dictionary belongs to another model.
    """
    return QualityEvaluator(model, tuple(texts)).evaluate(dictionary)


@dataclass(frozen=True)
class QualityEvaluator:
    """Measures any number of dictionaries on one checkpoint and one set of texts.

    Losses that do not depend on the dictionary are computed once and cached.

    Attributes:
        model: the checkpoint.
        texts: held out from the training of the dictionaries.
    """

    model: LanguageModel
    texts: tuple[Tokens, ...]
    _losses: dict[Site | None, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def evaluate(self, dictionary: Dictionary) -> MeasuredQuality:
        """Measure a dictionary on all tokens but each text's first.

        Raises:
            DataError: no texts.
            FeatureError: the dictionary belongs to another model.
        """
        refuse_unfit_dictionary(dictionary, self.model)
        with self.model.inference_session():
            return self._evaluate(dictionary.to(device=self.model.network.device))

    def _evaluate(self, dictionary: Dictionary) -> MeasuredQuality:
        import torch

        statistics, site = ReconstructionStatistics(dictionary), dictionary.site
        with torch.no_grad():
            for batch in self._batches:
                rows = _activations(self.model, batch, site)
                statistics.add(rows, dictionary.encode(rows))
        mean = statistics.mean.to(dictionary.b_dec.dtype)
        loss, zeroed = self._loss(None), self._loss(site, mean.expand_as)
        reconstruct = _Replacement(site, lambda x: dictionary.decode(dictionary.encode(x)))
        reconstructed = _mean_loss(self.model.edited(reconstruct), self._batches)
        rates = statistics.firing_rates
        quality = Quality(
            explained_variance=statistics.explained_variance,
            l0=float(rates.sum()),
            dead=float((rates == 0).float().mean()),
            dense=float((rates > DENSE_RATE).float().mean()),
            loss=loss,
            loss_reconstructed=reconstructed,
            loss_zeroed=zeroed,
            loss_recovered=(zeroed - reconstructed) / (zeroed - loss) if zeroed != loss else math.nan,
            n_tokens=statistics.n,
        )
        return MeasuredQuality(quality, rates.cpu())

    @cached_property
    def _batches(self) -> tuple[Batch, ...]:
        return tuple(_batches(self.model, self.texts))

    def _loss(self, site: Site | None, replace: Callable[[Tensor], Tensor] | None = None) -> float:
        """Loss of the unedited model (site None), or with a site replaced by its mean; neither needs a dictionary."""
        if site not in self._losses:
            model = self.model
            if site is not None and replace is not None:
                model = model.edited(_Replacement(site, replace))
            self._losses[site] = _mean_loss(model, self._batches)
        return self._losses[site]


def token_activations(
    model: LanguageModel, site: Site, texts: Sequence[Tokens]
) -> Float[Tensor, "row d_model"]:
    """Activations of all tokens but each text's first, in the same order for every model."""
    import torch

    with model.inference_session():
        return torch.cat([_activations(model, batch, site).cpu() for batch in _batches(model, texts)])


def refuse_unfit_dictionary(dictionary: Dictionary, model: LanguageModel) -> None:
    """Raise if a dictionary cannot belong to this model: another width, or a layer that the model lacks."""
    dictionary.site.within(model.n_layers)
    if dictionary.d_model != model.d_model:
        raise FeatureError(
            f"{dictionary.name} reads activations of width {dictionary.d_model}, and {model.checkpoint} has width "
            f"{model.d_model}: it is of another model"
        )


def refuse_poor_dictionary(
    dictionary: Dictionary, explained: Mapping[str, float], floor: float = MIN_EXPLAINED_VARIANCE
) -> None:
    """Raise if a dictionary explains too little of the variance of some checkpoint.

    It was then trained on another model or site, or is used with the wrong activation function or scale.

    Args:
        dictionary: named in the error.
        explained: explained variance by role.
        floor: the least that is accepted.
    """
    for role, share in explained.items():
        if not share >= floor:
            raise FeatureError(
                f"{dictionary.name} explains {share:.2f} of the variance of {role} at {dictionary.site}; at least "
                f"{floor:.2f} is wanted. Another model or site, or another activation function? Say --floor -inf to use "
                "it all the same"
            )


@dataclass(frozen=True)
class _Replacement:
    """An edit that replaces a site at every token but a text's first."""

    site: Site
    replace: Callable[[Tensor], Tensor]

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        def edit(activations: Tensor, roles: Tensor) -> Tensor:
            import torch

            replaced = self.replace(activations.float()).to(activations.dtype)
            return torch.where(_after_first_token(roles)[..., None], replaced, activations)

        return {self.site: edit}


def _after_first_token(roles: Tensor) -> Tensor:
    """Tokens that are neither padding nor the first of their text, which is an outlier in most models."""
    return (roles != Role.PAD) & ((roles & Role.FIRST) == 0)


def _batches(model: LanguageModel, texts: Sequence[Tokens]) -> Iterator[Batch]:
    if not texts:
        raise DataError("no text to judge a dictionary on; give at least one")
    yield from (batch for _, batch in model.batches(texts, model.batch_tokens("activations")))


def _activations(model: LanguageModel, batch: Batch, site: Site) -> Float[Tensor, "row d_model"]:
    return model.activations(batch, [site])[site][_after_first_token(batch.roles)].float()


def _mean_loss(model: LanguageModel, batches: Iterable[Batch]) -> float:
    """Mean negative log-probability of every token but a text's first, nats."""
    total, n = 0.0, 0
    for batch in batches:
        is_scored = _after_first_token(batch.roles)
        scored = Batch(batch.ids, batch.roles.masked_fill(is_scored, int(Role.RESPONSE)))
        total -= float(model.log_probs(scored).double().sum())
        n += int(is_scored.sum())
    return total / n
