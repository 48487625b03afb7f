"""Sampling of answers whose random numbers belong to the prompt and the sample, never to the batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.models.tokens import Tokens
from personaprobe.storage.digests import sha256

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

VOCAB_BLOCK = 128
"""Tokens of the vocabulary whose probabilities are summed before one of them is looked for."""


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled.

    Attributes:
        max_new_tokens: length at which answers are cut.
        temperature: of the softmax; 0 takes the most probable token.
        seed: determines every random number, together with the prompt and the sample's index.
        batch_size: answers decoded at the same time; does not change them.
    """

    max_new_tokens: int = 60
    temperature: float = 0.8
    seed: int = 0
    batch_size: int = 192

    def describe(self) -> dict[str, Any]:
        """Return the settings that determine the answers; the batch size does not."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size"}


@dataclass(frozen=True)
class Draw:
    """One answer to be sampled: a prompt, and the index of the sample among those of this prompt."""

    prompt: Tokens
    sample: int = 0

    def uniforms(self, sampling: Sampling) -> list[float]:
        """Return one random number in [0, 1) for each token.

        They are the same for every arm of a study, so that answers differ only where the models do.
        """
        import torch

        text = f"{sampling.seed}\0{self.sample}\0{self.prompt.ids}"
        seed = int.from_bytes(sha256(text)[:8], "big") >> 1
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64).tolist()


def sample_tokens(
    logits: Float[Tensor, "row vocab"], uniforms: Float[Tensor, "row"], temperature: float
) -> Int[Tensor, "row"]:
    """Sample a token of each row by inverting the cumulative distribution at its uniform number.

    With shared uniforms, nearly equal distributions give the same token. Temperature 0 takes the argmax.
    """
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    weights = logits - logits.amax(-1, keepdim=True)
    weights = weights.div_(temperature).exp_() if temperature != 1 else weights.exp_()
    # search in two stages, first among blocks and then inside one: most of the vocabulary is then only summed, and needs
    # no cumulative sum in float64
    if missing := -logits.shape[-1] % VOCAB_BLOCK:
        weights = torch.nn.functional.pad(weights, (0, missing))
    blocks = weights.view(len(logits), -1, VOCAB_BLOCK)
    block_ends = blocks.sum(-1).double().cumsum(-1)
    # the last end is the whole mass: scaling by it, in place of normalising, keeps every draw inside the vocabulary
    target = uniforms[:, None] * block_ends[:, -1:]
    block = torch.searchsorted(block_ends, target, right=True).clamp_max(block_ends.shape[-1] - 1)
    mass_before = torch.where(block > 0, block_ends.gather(-1, (block - 1).clamp_min(0)), 0.0)
    rows = torch.arange(len(blocks), device=logits.device)
    ends_inside = blocks[rows, block[:, 0]].double().cumsum(-1)
    place = torch.searchsorted(ends_inside, target - mass_before, right=True).clamp_max(VOCAB_BLOCK - 1)
    # rounding may point at the padding of the last block
    return (block * VOCAB_BLOCK + place)[:, 0].clamp_max(logits.shape[-1] - 1)
