"""Example contexts of a latent, with and without activity, and the histogram of its activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import TokenizedText
from personaprobe.models.language_model import LanguageModel

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

WINDOW = 24
"""Tokens shown before and after the peak."""

N_BINS = 24


@dataclass(frozen=True)
class Context:
    """A window of text around one token.

    Attributes:
        id: of the text. family: its subject.
        tokens: decoded, in order.
        activations: of the latent at each token.
        peak: index of the token with the largest activation; of a non-activating context, of its centre.
    """

    id: str
    family: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int

    @property
    def peak_activation(self) -> float:
        """The largest activation."""
        return self.activations[self.peak]


@dataclass(frozen=True)
class Histogram:
    """Histogram of a latent's activations over tokens at which it is active.

    Attributes:
        edges: ascending, one more than counts.
        counts: tokens per bin, by role.
        rate: share of all tokens at which the latent is active, by role.
    """

    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]
    rate: Mapping[str, float]


def top_contexts(
    model: LanguageModel,
    readings: Sequence[TokenizedText],
    activations: Sequence[Float[Tensor, "_"]],
    n: int,
) -> list[Context]:
    """The contexts of the ``n`` largest activations, at most one per text, in descending order.

    Args:
        model: whose tokenizer decodes tokens.
        readings: the texts.
        activations: of one latent in each text.
        n: number of contexts; fewer if the latent is active in fewer texts.
    """
    peaks = [(float(acts.max()), index) for index, acts in enumerate(activations)]
    largest = sorted((peak for peak in peaks if peak[0] > 0), key=lambda peak: (-peak[0], peak[1]))[:n]
    return [
        _context(model, readings[index], activations[index], int(activations[index].argmax()))
        for _, index in largest
    ]


def non_activating_contexts(
    model: LanguageModel,
    readings: Sequence[TokenizedText],
    activations: Sequence[Float[Tensor, "_"]],
    n: int,
    seed: int,
) -> Iterator[Context]:
    """Random windows in which the latent is never active, at most one per text and ``n`` in all.

    Args:
        model: whose tokenizer decodes tokens.
        readings: the texts.
        activations: of one latent in each text.
        n: number of contexts at most.
        seed: of the order of texts and the places of windows.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    for index in rng.permutation(len(readings)):
        if n == 0:
            return
        acts = activations[index]
        centre = int(rng.integers(len(acts)))
        if not bool((acts[max(0, centre - WINDOW) : centre + WINDOW + 1] > 0).any()):
            n -= 1
            yield _context(model, readings[index], acts, centre)


def _context(model: LanguageModel, reading: TokenizedText, acts: Tensor, centre: int) -> Context:
    start, end = max(0, centre - WINDOW), min(len(acts), centre + WINDOW + 1)
    tokens = tuple(model.tokenizer.hf.decode([i]) for i in reading.tokens.ids[start:end])
    return Context(reading.id, reading.family, tokens, tuple(acts[start:end].tolist()), centre - start)


def activation_histogram(by_role: Mapping[str, Sequence[Float[Tensor, "_"]]]) -> Histogram:
    """Histogram of a latent's activations, with the same edges for every role.

    Args:
        by_role: activations in each text.
    """
    import torch

    joined = {role: torch.cat(list(texts)) for role, texts in by_role.items()}
    largest = max(float(values.max()) for values in joined.values()) or 1.0
    edges = torch.linspace(0.0, largest, N_BINS + 1)
    counts = {role: torch.histogram(values[values > 0], edges).hist for role, values in joined.items()}
    return Histogram(
        tuple(edges.tolist()),
        {role: tuple(int(count) for count in hist) for role, hist in counts.items()},
        {role: float((values > 0).float().mean()) for role, values in joined.items()},
    )
