"""Attribution: latents that speak for the careless answer and against the careful one, inside one model.

The first-order effect of a latent's direction d on the loss of an answer is −(g·d)((a − ā)·d), with g the gradient of the
negative log-probability at the activation a, and ā the mean activation. It is positive where the activation's part along
d makes the answer more likely (the follow-up of Wang et al. 2506.19823).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.quality import refuse_unfit_dictionary
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.progress import Advance, no_advance
from personaprobe.questions.pairs import PairSet

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
    refuse_unfit_dictionary(dictionary, model)
    careless, careful = (
        _mean_attribution(dictionary, model, pairs, answer, progress) for answer in ("careless", "careful")
    )
    return Ranking("attribution", (careless - careful).cpu().numpy())


def _mean_attribution(
    dictionary: Dictionary,
    model: LanguageModel,
    pairs: PairSet,
    answer: str,
    progress: Advance,
) -> Float[Tensor, "d_sae"]:
    """Mean attribution over the response tokens of one kind of answer; ā is their mean activation."""
    import torch

    dictionary = dictionary.on(model.network.device)
    texts = [reading.tokens for reading in tokenize(model.tokenizer, pairs) if reading.answer == answer]
    products, gradients = torch.zeros_like(dictionary.b_enc), torch.zeros_like(dictionary.b_enc)
    total, n = torch.zeros_like(dictionary.b_dec), 0
    for _, batch in model.even_batches(texts, model.batch_tokens("logits")):
        activations, gradient = model.gradients(batch, dictionary.site)
        is_response = (batch.roles & Role.RESPONSE) != 0
        a, g = activations[is_response], gradient[is_response] @ dictionary.W_dec.T
        products += (g * (a @ dictionary.W_dec.T)).sum(0)
        gradients += g.sum(0)
        total += a.sum(0)
        n += len(a)
        progress(int(batch.mask.sum()))
    # Σ (g·d)((a − ā)·d) = Σ (g·d)(a·d) − Σ (g·d) · (ā·d): the mean is subtracted after one pass
    return -(products - gradients * (dictionary.W_dec @ (total / n))) / n
