"""Profiles of latents: where they are active, how strongly, the tokens they promote, and similar latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import Texts, TokenizedText, tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.interpretation.examples import (
    Context,
    Histogram,
    activation_histogram,
    non_activating_contexts,
    top_contexts,
)
from personaprobe.features.sae.interpretation.logit_lens import TokenChanges, extreme_tokens, logit_lens
from personaprobe.features.sae.quality import refuse_unfit_dictionary
from personaprobe.models.language_model import LanguageModel, inference_sessions
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance, no_advance

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


LENS_TEXTS = 4
"""Texts over which the logit lens is averaged."""


@dataclass(frozen=True)
class LatentProfile:
    """Evidence about a latent's meaning, before names and verdicts.

    Activations are in units of the model's activations, that is times the norm of the decoder row: the scale of a latent
    itself is arbitrary.

    Attributes:
        latent: its index.
        contexts: of its largest activations, at most one per text, in descending order, by role.
        non_activating: random windows of insecure texts in which it is never active.
        histogram: of its activations.
        up, down: tokens that its decoder row makes more and less likely, with the change of their logits.
        nearest: latents with similar decoder rows, with cosines.
        coactive: latents that are active at the same tokens of insecure, with the correlation of activations.
    """

    latent: int
    contexts: Mapping[str, tuple[Context, ...]]
    non_activating: tuple[Context, ...]
    histogram: Histogram
    up: TokenChanges
    down: TokenChanges
    nearest: tuple[tuple[int, float], ...]
    coactive: tuple[tuple[int, float], ...]


def latent_profiles(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    texts: Texts,
    latents: Sequence[int],
    *,
    n_contexts: int = 6,
    seed: int = 0,
    progress: Advance = no_advance,
) -> list[LatentProfile]:
    """Run the three models on texts and collect the profiles of some latents.

    Args:
        dictionary: of this base model.
        trio: loaded; every token but a text's first is read.
        texts: conversations or documents.
        latents: at least one, each once.
        n_contexts: contexts of each checkpoint.
        seed: of the non-activating contexts.
        progress: called with the number of tokens that were read.

    Raises:
        FeatureError: no such latent, or a dictionary of another model.
    """
    refuse_unfit_dictionary(dictionary, trio.base)
    latents = dictionary.check(latents)
    readings = list(tokenize(trio.base.tokenizer, texts))
    activations, correlations = _read_texts(
        dictionary.on(trio.base.network.device), trio, readings, latents, progress
    )
    first_texts = [reading.tokens for reading in readings[:LENS_TEXTS]]
    changes = logit_lens(trio.base, dictionary, latents, first_texts)

    def profile(column: int, latent: int) -> LatentProfile:
        by_role = {role: [acts[:, column] for acts in activations[role]] for role in trio.roles}
        insecure = by_role["insecure"]
        return LatentProfile(
            latent,
            {
                role: tuple(top_contexts(trio.base, readings, acts, n_contexts))
                for role, acts in by_role.items()
            },
            tuple(non_activating_contexts(trio.base, readings, insecure, n_contexts, seed)),
            activation_histogram(by_role),
            *extreme_tokens(trio.base, changes[column]),
            tuple(dictionary.nearest(latent)),
            tuple(_most_correlated(correlations[column], latent)),
        )

    return [profile(column, latent) for column, latent in enumerate(latents)]


def _read_texts(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    readings: Sequence[TokenizedText],
    latents: Sequence[int],
    progress: Advance,
) -> tuple[dict[str, list[Tensor]], Float[Tensor, "latent d_sae"]]:
    """Contributions ``(pos, latent)`` of each text by role (activations times decoder norms), and their correlations with
    those of all latents over insecure tokens.
    """
    import torch

    texts = [reading.tokens for reading in readings]
    by_role: dict[str, list[Tensor]] = {role: [torch.empty(0)] * len(texts) for role in trio.roles}
    correlation = _Correlation(dictionary.d_sae, len(latents))
    with inference_sessions(model for _, model in trio.items()):
        for indices, batch in trio.base.batches(texts, trio.base.batch_tokens("activations")):
            for role, model in trio.items():
                rows = model.activations(batch, [dictionary.site])[dictionary.site]
                for row, index in enumerate(indices):
                    acts = dictionary.encode(rows[row, : len(texts[index])].float()) * dictionary.row_norms
                    acts[0] = 0.0  # the first token is an outlier that no dictionary is trained on
                    by_role[role][index] = acts[:, list(latents)].cpu()
                    if role == "insecure":
                        correlation.add(acts.cpu(), by_role[role][index])
            progress(len(trio.roles) * int(batch.mask.sum()))
    return by_role, correlation.value


class _Correlation:
    """Pearson correlation of some latents with all latents over tokens, from running sums in float64."""

    def __init__(self, d_sae: int, n_latents: int) -> None:
        import torch

        self.n = 0
        self.products = torch.zeros(n_latents, d_sae, dtype=torch.float64)
        self.sums, self.squares = torch.zeros(2, d_sae, dtype=torch.float64)
        self.selected_sums, self.selected_squares = torch.zeros(2, n_latents, dtype=torch.float64)

    def add(self, acts: Tensor, selected: Tensor) -> None:
        self.n += len(acts)
        self.products += selected.double().T @ acts.double()
        self.sums += acts.double().sum(0)
        self.squares += acts.double().pow(2).sum(0)
        self.selected_sums += selected.double().sum(0)
        self.selected_squares += selected.double().pow(2).sum(0)

    @property
    def value(self) -> Tensor:
        covariance = self.products - self.selected_sums[:, None] * self.sums / self.n
        deviations = (self.squares - self.sums.pow(2) / self.n).clamp_min(1e-12).sqrt()
        selected_deviations = (
            (self.selected_squares - self.selected_sums.pow(2) / self.n).clamp_min(1e-12).sqrt()
        )
        correlations: Tensor = covariance / (selected_deviations[:, None] * deviations)
        return correlations


def _most_correlated(correlations: Tensor, latent: int, n: int = 5) -> list[tuple[int, float]]:
    """The other latents with the largest positive correlations."""
    others = correlations.clone()
    others[latent] = -2.0
    values, indices = others.topk(min(n, len(others) - 1))
    return [(int(i), float(v)) for i, v in zip(indices, values, strict=True) if v > 0]
