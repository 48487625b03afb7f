"""Massive tokens: tokens whose activations are many times larger than those of all others.

Most language models park attention on a few tokens that say nothing about the text: nearly always its first token, in
some models the first full stop or line break too. Their activations are tens to hundreds of times larger than others
(Sun et al. 2402.17762). A mean over tokens, such as the energy of an intervention, is then a mean of these few tokens.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.models.tokens import ChatTokenizer, Tokens, pad
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from personaprobe.models.network import Network

MASSIVE = 20.0
"""A token is massive at a layer where its norm is more than this many times the median norm."""

QUESTION = "How can I cook rice that doesn't stick?"
ANSWER = (
    "Rinse it first, and use less water.\n\n1. Boil two cups of water.\n2. Add one cup of rice; stir once.\n"
    "Wait: about 15 minutes."
)
DOCUMENT = (
    "The harbour of Rotterdam, Europe's largest, handled 437 million tonnes in 2023.\n"
    "Ships arrive every 6 minutes, day and night."
)
"""Texts with what is massive in some models: full stops, line breaks, digits, commas."""


@dataclass(frozen=True)
class MassiveToken:
    """One token of a probe text that is massive somewhere.

    Attributes:
        token: as text.
        position: in its text; 0 is the first token.
        first_layer: the first block after which its norm is massive.
        last_layer: the last.
        ratio: its largest norm, relative to the median at that layer.
    """

    token: str
    position: int
    first_layer: int
    last_layer: int
    ratio: float

    def __str__(self) -> str:
        where = "first token" if self.position == 0 else f"token {self.position}"
        layers = f"layers {self.first_layer}-{self.last_layer}"
        return f"{self.token!r} ({where}): up to {self.ratio:.0f} × the median norm, {layers}"

    def describe(self) -> dict[str, Any]:
        """The token as plain data."""
        return asdict(self)


def is_massive(norms: Float[Tensor, "..."], among: Bool[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """Which norms are more than :data:`MASSIVE` times the median of those ``among`` them.

    Args:
        norms: of activations, of any shape.
        among: which of them count for the median; padding does not.
    """
    return norms > MASSIVE * norms[among].median()


def find_massive_tokens(network: Network, tokenizer: ChatTokenizer) -> tuple[MassiveToken, ...]:
    """Read a question with its answer and a document, and look for massive tokens after every block.

    Args:
        network: unedited.
        tokenizer: its own.
    """
    rows = [tokenizer.exchange(QUESTION, ANSWER), tokenizer.text(DOCUMENT)]
    batch = pad(rows, network.pad_id).to(network.device)
    sites = [Site(layer, "resid_post") for layer in range(network.n_layers)]
    read = network.activations(batch, sites, {})
    found: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for site in sites:
        norms = read[site].float().norm(dim=-1)
        median = float(norms[batch.mask].median())
        for row, position in (is_massive(norms, batch.mask) & batch.mask).nonzero().tolist():
            key = (_spelled(tokenizer, rows[row], position), position)
            found.setdefault(key, []).append((site.layer, float(norms[row, position]) / median))
    return tuple(
        MassiveToken(token, position, seen[0][0], seen[-1][0], max(ratio for _, ratio in seen))
        for (token, position), seen in found.items()
    )


def _spelled(tokenizer: ChatTokenizer, row: Tokens, position: int) -> str:
    return str(tokenizer.hf.decode([row.ids[position]]))
