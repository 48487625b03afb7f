"""Model diffing: the activity of each latent in the three checkpoints on the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import Texts, TokenizedText, tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.quality import (
    MIN_EXPLAINED_VARIANCE,
    refuse_poor_dictionary,
    refuse_unfit_dictionary,
)
from personaprobe.features.sae.reconstruction import ReconstructionStatistics
from personaprobe.models.language_model import LanguageModel, inference_sessions
from personaprobe.models.tokens import Batch, Role
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance, no_advance

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Comparison:
    """Activity of a dictionary's latents on the response tokens of the same texts in the checkpoints of a trio.

    Attributes:
        dictionary: the latents.
        ids: the question of each text.
        families: the family of each text's question, or the text itself where it has none; permutations exchange the texts
            of one family together.
        means: ``(text, d_sae)`` mean activation over each text's response tokens, by role.
        rates: ``(d_sae)`` share of response tokens in which a latent is active, by role.
        scaling: ``(d_sae)`` β of latent scaling, by role: how much of the latent's insecure activation the checkpoint's
            activations hold along its decoder row, ``Σ f r·d / (Σ f² ‖d‖²)``, with r the activation minus the reconstruction
            by all other latents (Minder et al. 2025); nan if it is never active.
        centre: ``(d_model)`` mean activation over response tokens, by role.
        explained_variance: of the response tokens' activations, by role.
    """

    dictionary: Dictionary
    ids: tuple[str, ...]
    families: tuple[str, ...]
    means: Trio[Float[Tensor, "text d_sae"]]
    rates: Trio[Float[Tensor, "d_sae"]]
    scaling: Trio[Float[Tensor, "d_sae"]]
    centre: Trio[Float[Tensor, "d_model"]]
    explained_variance: Trio[float]

    @cached_property
    def mean_contributions(self) -> Trio[Float[Tensor, "text d_sae"]]:
        """``means`` times the norms of the decoder rows, by role: how much each latent writes, whatever its scale."""
        norms = self.dictionary.row_norms.cpu()
        return self.means.map(lambda means: means * norms)

    def refuse_poor(self, floor: float = MIN_EXPLAINED_VARIANCE) -> None:
        """Raise if the dictionary explains less than ``floor`` of the variance of some checkpoint."""
        refuse_poor_dictionary(self.dictionary, dict(self.explained_variance.items()), floor)


def compare(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    texts: Texts,
    progress: Advance = no_advance,
) -> Comparison:
    """Run the three models on the same texts and measure the activity of every latent.

    Args:
        dictionary: of this base model.
        trio: loaded.
        texts: questions with answers, or documents.
        progress: called with the number of tokens that were read.

    Raises:
        FeatureError: the dictionary belongs to another model.
    """
    refuse_unfit_dictionary(dictionary, trio.base)
    readings = list(tokenize(trio.base.tokenizer, texts))
    sums = _RunningSums(dictionary.on(trio.base.network.device), len(readings), trio.roles)
    with inference_sessions(model for _, model in trio.items()):
        for indices, batch in trio.base.batches(
            [reading.tokens for reading in readings], trio.base.batch_tokens("activations")
        ):
            sums.add(indices, _response_activations(trio, dictionary, batch))
            progress(len(trio.roles) * int(batch.mask.sum()))
    return sums.comparison(dictionary, readings)


def _response_activations(
    trio: Trio[LanguageModel], dictionary: Dictionary, batch: Batch
) -> list[dict[str, Tensor]]:
    """Activations ``(token, d_model)`` of each text's response tokens, by role."""
    is_response = (batch.roles & Role.RESPONSE) != 0
    activations = {
        role: model.activations(batch, [dictionary.site])[dictionary.site] for role, model in trio.items()
    }
    return [
        {role: activations[role][row][is_response[row]].float() for role in activations}
        for row in range(len(is_response))
    ]


class _RunningSums:
    """Running sums over tokens, on the dictionary's device."""

    def __init__(self, dictionary: Dictionary, n_texts: int, roles: Sequence[str]) -> None:
        import torch

        self.dictionary = dictionary
        self.means = {role: torch.zeros(n_texts, dictionary.d_sae) for role in roles}
        self.projections = {role: torch.zeros_like(dictionary.b_enc) for role in roles}
        self.squares = torch.zeros_like(dictionary.b_enc)
        self.square_norms = dictionary.W_dec.pow(2).sum(-1)
        self.statistics = {role: ReconstructionStatistics(dictionary) for role in roles}

    def add(self, indices: Sequence[int], texts: Sequence[dict[str, Tensor]]) -> None:
        dictionary = self.dictionary
        for index, rows in zip(indices, texts, strict=True):
            acts = {role: dictionary.encode(x) for role, x in rows.items()}
            for role, x in rows.items():
                self.means[role][index] = acts[role].mean(0).cpu()
                residual = (x - dictionary.decode(acts[role])) @ dictionary.W_dec.T
                # r is the residual plus the latent's own part
                along_rows = residual + acts[role] * self.square_norms
                self.projections[role] += (acts["insecure"] * along_rows).sum(0)
                self.statistics[role].add(x, acts[role])
            self.squares += acts["insecure"].pow(2).sum(0)

    def comparison(self, dictionary: Dictionary, texts: Sequence[TokenizedText]) -> Comparison:
        statistics = Trio.of(self.statistics)
        norms = self.squares * self.square_norms
        return Comparison(
            dictionary,
            tuple(text.id for text in texts),
            tuple(text.family or text.id for text in texts),
            Trio.of(self.means),
            statistics.map(lambda role: role.firing_rates.cpu()),
            Trio.of(self.projections).map(lambda projection: (projection / norms).cpu()),
            statistics.map(lambda role: role.mean.float().cpu()),
            statistics.map(lambda role: role.explained_variance),
        )
