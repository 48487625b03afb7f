"""Massive tokens: tokens whose activations are many times larger than those of all others.

Most language models direct attention to a few tokens without information about the text: nearly always its first token, in
some models also the first full stop or line break. Their activations are tens to hundreds of times larger than others
(Sun et al. 2402.17762). They dominate every mean over tokens, such as the energy of an intervention.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

MASSIVE = 20.0
"""A token is massive at a layer where its norm is more than this many times the median norm."""


@dataclass(frozen=True)
class MassiveToken:
    """One token of a probe text that is massive somewhere.

    Attributes:
        token: its text.
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
    """Select the norms that are more than :data:`MASSIVE` times the median.

    Args:
        norms: of activations, of any shape.
        among: the norms that count for the median, of the same shape; padding does not.
    """
    return norms > MASSIVE * norms[among].median()
