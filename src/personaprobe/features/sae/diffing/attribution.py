"""Δ-attribution: which latents speak for the careless answer, and against the careful one, inside one model.

The first-order effect of a latent's direction on the loss of an answer is −(g·d)((a − ā)·d), with g the gradient of the
negative log-probability at the activation a, and ā the mean activation: positive where what the activation has along d
makes the answer more likely (the follow-up of Wang et al. 2506.19823).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import read_as
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.quality import refuse_unfit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.progress import Advance, no_advance
from personaprobe.questions.pairs import PairSet

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

BATCH_TOKENS = 1024


def rank_by_attribution(
    dictionary: Dictionary,
    model: LanguageModel,
    pairs: PairSet,
    progress: Advance = no_advance,
) -> Ranking:
    """Rank latents by their mean attribution a token to careless answers, less that to careful ones.

    Args:
        dictionary: of this model.
        model: the insecure one; its network must compute gradients.
        pairs: questions with both answers.
        progress: told how many tokens were read.

    Raises:
        FeatureError: the dictionary is of another model.
        CheckpointError: the backend computes no gradients.
    """
    refuse_unfit(dictionary, model)
    careless, careful = (
        _attributions(dictionary, model, pairs, answer, progress) for answer in ("careless", "careful")
    )
    return Ranking("attribution", (careless - careful).cpu().numpy())


def _attributions(
    dictionary: Dictionary,
    model: LanguageModel,
    pairs: PairSet,
    answer: str,
    progress: Advance,
) -> Float[Tensor, "d_sae"]:
    """Mean over the response tokens of one kind of answer, the mean activation being theirs."""
    import torch

    dictionary = dictionary.on(model.network.device)
    texts = [reading.tokens for reading in read_as(model.tokenizer, pairs) if reading.answer == answer]
    products, slopes = torch.zeros_like(dictionary.b_enc), torch.zeros_like(dictionary.b_enc)
    total, n = torch.zeros_like(dictionary.b_dec), 0
    for _, batch in model.even_batches(texts, BATCH_TOKENS):
        activations, gradient = model.gradients(batch, dictionary.site)
        chosen = (batch.roles & Role.RESPONSE) != 0
        a, g = activations[chosen], gradient[chosen] @ dictionary.W_dec.T
        products += (g * (a @ dictionary.W_dec.T)).sum(0)
        slopes += g.sum(0)
        total += a.sum(0)
        n += len(a)
        progress(int(batch.mask.sum()))
    return -(products - slopes * (dictionary.W_dec @ (total / n))) / n
