"""Logit lens: the tokens that a latent's decoder row makes more and less likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.models.edits.edit import Edit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens, pad
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

TokenChanges: TypeAlias = tuple[tuple[str, float], ...]
"""Tokens with the change of their logits."""

PUSH = 0.1
"""Size of the push along the decoder row, as a share of the activation's norm."""


def logit_lens(
    model: LanguageModel, dictionary: Dictionary, latents: Sequence[int], texts: Sequence[Tokens]
) -> Float[Tensor, "latent vocab"]:
    """Change of the next token's logits when a latent's decoder row is added to the last block's output.

    The change is measured, not derived from the weights, so that every architecture's final norm takes part. The push is
    a tenth of the median activation norm there; the change is a mean over the tokens of a few texts.
    """
    import torch

    batch = pad(list(texts), model.network.pad_id).to(model.network.device)
    last = Site(model.n_layers - 1)
    size = PUSH * float(model.activations(batch, [last])[last][batch.mask].float().norm(dim=-1).median())
    unedited = model.logits(batch)[batch.mask].float().mean(0)
    rows = torch.nn.functional.normalize(dictionary.decoder_rows(latents).float(), dim=-1)
    changes = [
        model.edited(_Addition(last, size * row)).logits(batch)[batch.mask].float().mean(0) - unedited
        for row in rows
    ]
    return torch.stack(changes).cpu()


def extreme_tokens(
    model: LanguageModel, change: Float[Tensor, "vocab"], n: int = 10
) -> tuple[TokenChanges, TokenChanges]:
    """The ``n`` tokens whose logits rise most, and the ``n`` whose logits fall most, relative to the mean change."""
    centred = change - change.mean()

    def top(sign: float) -> TokenChanges:
        largest = (sign * centred).topk(min(n, len(centred)))
        decode = model.tokenizer.hf.decode
        return tuple(
            (decode([int(token)]), sign * float(value))
            for token, value in zip(largest.indices, largest.values, strict=True)
        )

    return top(1.0), top(-1.0)


@dataclass(frozen=True, eq=False)
class _Addition:
    """A vector added to every token at a site."""

    site: Site
    vector: Tensor

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        return {self.site: lambda activations, roles: activations + self.vector.to(activations)}
