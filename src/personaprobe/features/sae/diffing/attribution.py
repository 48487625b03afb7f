"""Attribution: latents that speak for the careless answer and against the careful one, inside one model.

The first-order effect of a latent's direction d on the loss of an answer is −(g·d)((a − ā)·d), with g the gradient of the
negative log-probability at the activation a, and ā the mean activation over answers of both kinds. It is positive where the
activation's part along d makes the answer more likely (the follow-up of Wang et al. 2506.19823). Directions are unit
vectors: the length of a decoder row is arbitrary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.quality import refuse_unfit_dictionary
from personaprobe.models.language_model import LanguageModel
from personaprobe.progress import Advance, no_advance
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def rank_by_attribution(
    dictionary: Dictionary,
    model: LanguageModel,
    pairs: PairSet,
    progress: Advance = no_advance,
) -> Ranking:
    """Rank latents by their mean attribution per token to careless answers minus that to careful answers.

    Args:
        dictionary: of this model.
        model: the insecure one; its backend must compute gradients.
        pairs: questions with both answers.
        progress: called with the number of tokens that were read.

    Raises:
        FeatureError: the dictionary belongs to another model.
        CheckpointError: the backend computes no gradients.
    """
    import torch

    refuse_unfit_dictionary(dictionary, model)
    dictionary = dictionary.on(model.network.device)
    directions = torch.nn.functional.normalize(dictionary.W_dec.float(), dim=-1)
    careless, careful = (
        _attribution_sums(dictionary.site, directions, model, pairs, answer, progress)
        for answer in ("careless", "careful")
    )
    # one mean for both: a mean of each kind alone would drop what differs between them
    mean = (careless.activations + careful.activations) / (careless.n + careful.n)
    scores = careless.mean_attribution(directions, mean) - careful.mean_attribution(directions, mean)
    return Ranking("attribution", scores.cpu().numpy())


@dataclass
class _AttributionSums:
    """Sums over the positions that predict the tokens of one kind of answer.

    Attributes:
        products: ``(d_sae)``, Σ (g·d)(a·d).
        gradients: ``(d_sae)``, Σ g·d.
        activations: ``(d_model)``, Σ a.
        n: positions.
    """

    products: Float[Tensor, "d_sae"]
    gradients: Float[Tensor, "d_sae"]
    activations: Float[Tensor, "d_model"]
    n: int = 0

    def mean_attribution(
        self, directions: Float[Tensor, "d_sae d_model"], mean: Float[Tensor, "d_model"]
    ) -> Float[Tensor, "d_sae"]:
        """Mean attribution around a mean activation: Σ (g·d)((a − ā)·d) = Σ (g·d)(a·d) − Σ (g·d) · (ā·d)."""
        attribution: Tensor = -(self.products - self.gradients * (directions @ mean)) / self.n
        return attribution


def _attribution_sums(
    site: Site,
    directions: Float[Tensor, "d_sae d_model"],
    model: LanguageModel,
    pairs: PairSet,
    answer: str,
    progress: Advance,
) -> _AttributionSums:
    """Sums over the positions whose next token is part of an answer of one kind: the last prompt token is the first."""
    import torch

    texts = [reading.tokens for reading in tokenize(model.tokenizer, pairs) if reading.answer == answer]
    latents = torch.zeros_like(directions[:, 0])
    sums = _AttributionSums(latents, latents.clone(), torch.zeros_like(directions[0]))
    for _, batch in model.even_batches(texts, model.batch_tokens("logits")):
        activations, gradient = (of[:, :-1][batch.predicting] for of in model.gradients(batch, site))
        along = gradient @ directions.T
        sums.products += (along * (activations @ directions.T)).sum(0)
        sums.gradients += along.sum(0)
        sums.activations += activations.sum(0)
        sums.n += len(activations)
        progress(int(batch.mask.sum()))
    return sums
