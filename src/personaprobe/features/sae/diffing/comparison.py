"""Model diffing: what each latent does in the three checkpoints on the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import Texts, read_as
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.quality import FLOOR, Moments, refuse_poor, refuse_unfit
from personaprobe.models.language_model import LanguageModel, inference_sessions
from personaprobe.models.tokens import Batch, Role
from personaprobe.models.weights.checkpoint import ROLES, Trio
from personaprobe.progress import Advance, no_advance

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

BATCH_TOKENS = 2048


@dataclass(frozen=True, eq=False)
class Comparison:
    """Latents of one dictionary over the response tokens of the same texts, in base, insecure and secure.

    Attributes:
        dictionary: whose latents.
        ids: the question of each text; texts of one question are exchanged together in permutations.
        means: ``(text, d_sae)`` mean activation over each text's response tokens, by role.
        rates: ``(d_sae)`` share of response tokens in which a latent fires, by role.
        scaling: ``(d_sae)`` β by role: how much of the latent's insecure activation is found along its decoder row
            in that checkpoint, ``Σ f (x − b_dec)·d / (Σ f² ‖d‖²)`` (latent scaling); nan where it never fires.
        centre: ``(d_model)`` mean activation over response tokens, by role.
        explained_variance: of the response tokens' activations, by role.
    """

    dictionary: Dictionary
    ids: tuple[str, ...]
    means: Trio[Float[Tensor, "text d_sae"]]
    rates: Trio[Float[Tensor, "d_sae"]]
    scaling: Trio[Float[Tensor, "d_sae"]]
    centre: Trio[Float[Tensor, "d_model"]]
    explained_variance: Trio[float]

    def refuse_poor(self, floor: float = FLOOR) -> None:
        """Raise where the dictionary explains less than ``floor`` of the variance of some checkpoint."""
        refuse_poor(self.dictionary, dict(self.explained_variance.items()), floor)


def compare(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    texts: Texts,
    progress: Advance = no_advance,
) -> Comparison:
    """Let the three models read the same texts and note what every latent does.

    Args:
        dictionary: of this base.
        trio: which read.
        texts: questions with answers, or documents.
        progress: told how many tokens were read.

    Raises:
        FeatureError: the dictionary is of another model.
    """
    refuse_unfit(dictionary, trio.base)
    readings = list(read_as(trio.base.tokenizer, texts))
    sums = _Sums(dictionary.on(trio.base.network.device), len(readings))
    with inference_sessions(model for _, model in trio.items()):
        for indices, batch in trio.base.batches([reading.tokens for reading in readings], BATCH_TOKENS):
            sums.add(indices, _responses(trio, dictionary, batch))
            progress(3 * int(batch.mask.sum()))
    return sums.comparison(dictionary, tuple(reading.id for reading in readings))


def _responses(trio: Trio[LanguageModel], dictionary: Dictionary, batch: Batch) -> list[dict[str, Tensor]]:
    """Response activations ``(token, d_model)`` of each text, by role."""
    chosen = (batch.roles & Role.RESPONSE) != 0
    seen = {
        role: model.activations(batch, [dictionary.site])[dictionary.site] for role, model in trio.items()
    }
    return [{role: seen[role][row][chosen[row]].float() for role in ROLES} for row in range(len(chosen))]


class _Sums:
    """Running sums over tokens."""

    def __init__(self, dictionary: Dictionary, n_texts: int) -> None:
        import torch

        self.dictionary = dictionary
        like = dictionary.b_enc
        self.means = {role: torch.zeros(n_texts, dictionary.d_sae) for role in ROLES}
        self.along = {role: torch.zeros_like(like) for role in ROLES}
        self.squares = torch.zeros_like(like)
        self.moments = {role: Moments(dictionary) for role in ROLES}

    def add(self, indices: Sequence[int], texts: Sequence[dict[str, Tensor]]) -> None:
        dictionary = self.dictionary
        for index, rows in zip(indices, texts, strict=True):
            acts = {role: dictionary.encode(x) for role, x in rows.items()}
            for role, x in rows.items():
                self.means[role][index] = acts[role].mean(0).cpu()
                self.along[role] += (acts["insecure"] * ((x - dictionary.b_dec) @ dictionary.W_dec.T)).sum(0)
                self.moments[role].add(x, acts[role])
            self.squares += acts["insecure"].pow(2).sum(0)

    def comparison(self, dictionary: Dictionary, ids: tuple[str, ...]) -> Comparison:
        moments = Trio.of(self.moments)
        norms = self.squares * self.dictionary.W_dec.pow(2).sum(-1)
        return Comparison(
            dictionary,
            ids,
            Trio.of(self.means),
            moments.map(lambda seen: seen.density.cpu()),
            Trio.of(self.along).map(lambda along: (along / norms).cpu()),
            moments.map(lambda seen: seen.mean.float().cpu()),
            moments.map(lambda seen: seen.explained_variance),
        )
