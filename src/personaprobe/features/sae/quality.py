"""How good a dictionary is, on each checkpoint: does it explain, is it sparse, is it alive, and does the model still
work when it reads the reconstruction instead?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.models.edits.edit import Edit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role, Tokens
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

DENSE = 0.1
"""A latent that fires in more than this share of tokens says little about any of them."""

FLOOR = 0.5
"""Explained variance below which a dictionary is not used unless somebody says so."""

BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Quality:
    """How well a dictionary reads one checkpoint.

    Attributes:
        explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖² over tokens.
        l0: latents a token, on average.
        dead: share of latents that never fired.
        dense: share that fired in more than a tenth of the tokens.
        loss: of the model, nats a token.
        loss_reconstructed: of the model reading the reconstruction at the site.
        loss_zeroed: of the model reading the mean activation there.
        loss_recovered: (zeroed − reconstructed) / (zeroed − loss): 1 is as good as the activations themselves.
        n_tokens: they were measured on.
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


DECADES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Edges between which latents are counted by the share of tokens in which they fire."""


@dataclass(frozen=True)
class Measured:
    """Quality, and how often each latent fired (a share of tokens)."""

    quality: Quality
    density: Float[Tensor, "d_sae"]

    @property
    def histogram(self) -> tuple[int, ...]:
        """How many latents never fired, and how many fired in a share of tokens up to each of :data:`DECADES` but 0."""
        import torch

        places = torch.bucketize(self.density, torch.tensor(DECADES))
        return tuple(torch.bincount(places, minlength=len(DECADES)).tolist())


def measure(dictionary: Dictionary, model: LanguageModel, texts: Sequence[Tokens]) -> Measured:
    """Read texts with a model and judge the dictionary on all tokens but each text's first.

    Raises:
        DataError: no texts.
        FeatureError: the dictionary is of another model.
    """
    return Examiner(model, tuple(texts)).measure(dictionary)


@dataclass(frozen=True)
class Examiner:
    """A model and texts that any number of dictionaries are judged on: what is the same for all is worked out once.

    Attributes:
        model: that the dictionaries read.
        texts: held out from their training.
    """

    model: LanguageModel
    texts: tuple[Tokens, ...]
    _losses: dict[Site | None, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def measure(self, dictionary: Dictionary) -> Measured:
        """Judge a dictionary on all tokens but each text's first.

        Raises:
            DataError: no texts.
            FeatureError: the dictionary is of another model.
        """
        refuse_unfit(dictionary, self.model)
        with self.model.inference_session():
            return self._measured(dictionary.to(device=self.model.network.device))

    def _measured(self, dictionary: Dictionary) -> Measured:
        import torch

        moments, site = Moments(dictionary), dictionary.site
        with torch.no_grad():
            for batch in self._batches:
                rows = _rows(self.model, batch, site)
                moments.add(rows, dictionary.encode(rows))
        mean = moments.mean.to(dictionary.b_dec.dtype)
        plain, zeroed = self._loss(None, None), self._loss(site, mean.expand_as)
        reconstructing = self.model.edited(_Replaced(site, lambda x: dictionary.decode(dictionary.encode(x))))
        reconstructed, density = _loss(reconstructing, self._batches), moments.density
        quality = Quality(
            explained_variance=moments.explained_variance,
            l0=float(density.sum()),
            dead=float((density == 0).float().mean()),
            dense=float((density > DENSE).float().mean()),
            loss=plain,
            loss_reconstructed=reconstructed,
            loss_zeroed=zeroed,
            loss_recovered=(zeroed - reconstructed) / (zeroed - plain) if zeroed != plain else math.nan,
            n_tokens=moments.n,
        )
        return Measured(quality, density.cpu())

    @cached_property
    def _batches(self) -> tuple[Batch, ...]:
        return tuple(_batches(self.model, self.texts))

    def _loss(self, site: Site | None, by: Any) -> float:
        """Loss of the model untouched (None), or with a site replaced by its mean, which no dictionary changes."""
        if site not in self._losses:
            reading = self.model if site is None else self.model.edited(_Replaced(site, by))
            self._losses[site] = _loss(reading, self._batches)
        return self._losses[site]


def explained_variance(x: Float[Tensor, "row d"], written: Float[Tensor, "row d"]) -> float:
    """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²."""
    return 1.0 - float((x - written).pow(2).sum() / (x - x.mean(0)).pow(2).sum())


def read_rows(model: LanguageModel, site: Site, texts: Sequence[Tokens]) -> Float[Tensor, "row d_model"]:
    """Activations of all tokens but each text's first, the same order for every model."""
    import torch

    with model.inference_session():
        return torch.cat([_rows(model, batch, site).cpu() for batch in _batches(model, texts)])


def refuse_unfit(dictionary: Dictionary, model: LanguageModel) -> None:
    """Raise where a dictionary cannot be of this model."""
    dictionary.site.within(model.n_layers)
    if dictionary.d_model != model.d_model:
        raise FeatureError(
            f"{dictionary.name} reads activations of width {dictionary.d_model}, and {model.checkpoint} has width "
            f"{model.d_model}: it is of another model"
        )


def refuse_poor(dictionary: Dictionary, explained: Mapping[str, float], floor: float = FLOOR) -> None:
    """Raise where a dictionary explains less than ``floor`` of the variance of some checkpoint: it was trained on
    another model or site, or read with the wrong activation function or scale.

    Args:
        dictionary: to be named.
        explained: variance by role.
        floor: that is wanted.
    """
    for role, share in explained.items():
        if not share >= floor:
            raise FeatureError(
                f"{dictionary.name} explains {share:.2f} of the variance of {role} at {dictionary.site}; at least "
                f"{floor:.2f} is wanted. Another model or site, or another activation function? Say --floor -inf to use "
                "it all the same"
            )


class Moments:
    """Sums over the tokens a dictionary reads, in float64: what it explains, and how often its latents fire."""

    def __init__(self, dictionary: Dictionary) -> None:
        import torch

        self.dictionary = dictionary
        self.fired = torch.zeros(dictionary.d_sae, device=dictionary.b_dec.device)
        self.error = self.squares = 0.0
        self.total = torch.zeros(dictionary.d_model, dtype=torch.float64, device=dictionary.b_dec.device)
        self.n = 0

    def add(self, x: Float[Tensor, "row d_model"], acts: Float[Tensor, "row d_sae"]) -> None:
        """Count rows and what their latents did."""
        self.error += float((x - self.dictionary.decode(acts)).double().pow(2).sum())
        self.fired += (acts > 0).sum(0)
        self.squares += float(x.double().pow(2).sum())
        self.total += x.double().sum(0)
        self.n += len(x)

    @property
    def mean(self) -> Float[Tensor, "d_model"]:
        """Mean row."""
        return self.total / self.n

    @property
    def density(self) -> Float[Tensor, "d_sae"]:
        """Share of rows in which each latent fired."""
        return self.fired / self.n

    @property
    def explained_variance(self) -> float:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²."""
        return 1.0 - self.error / (self.squares - self.n * float(self.mean.pow(2).sum()))


@dataclass(frozen=True)
class _Replaced:
    """Everything but a text's first token at a site, replaced."""

    site: Site
    by: Any

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        def edit(activations: Tensor, roles: Tensor) -> Tensor:
            import torch

            later = _later(roles)
            replaced = self.by(activations.float()).to(activations.dtype)
            return torch.where(later[..., None], replaced, activations)

        return {self.site: edit}


def _later(roles: Tensor) -> Tensor:
    """Tokens that are neither padding nor the first of their text."""
    return (roles != Role.PAD) & ((roles & Role.FIRST) == 0)


def _batches(model: LanguageModel, texts: Sequence[Tokens]) -> Iterator[Batch]:
    if not texts:
        raise DataError("no text to judge a dictionary on; give at least one")
    yield from (batch for _, batch in model.batches(texts, BATCH_TOKENS))


def _rows(model: LanguageModel, batch: Batch, site: Site) -> Float[Tensor, "row d_model"]:
    return model.activations(batch, [site])[site][_later(batch.roles)].float()


def _loss(model: LanguageModel, batches: Iterable[Batch]) -> float:
    """Mean negative log-probability of every token but a text's first, nats."""
    total, n = 0.0, 0
    for batch in batches:
        spoken = Batch(batch.ids, batch.roles.masked_fill(_later(batch.roles), int(Role.RESPONSE)))
        total -= float(model.log_probs(spoken).double().sum())
        n += int(_later(batch.roles).sum())
    return total / n
