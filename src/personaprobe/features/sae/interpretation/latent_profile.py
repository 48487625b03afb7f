"""Portraits of latents: where they fire, how strongly, what they write, and who their neighbours are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.features.activations.recording_spec import Reading, Texts, read_as
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.quality import refuse_unfit
from personaprobe.models.edits.edit import Edit
from personaprobe.models.language_model import LanguageModel, inference_sessions
from personaprobe.models.tokens import Tokens, pad
from personaprobe.models.weights.checkpoint import ROLES, Trio
from personaprobe.progress import Advance, no_advance
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

BATCH_TOKENS = 2048
WINDOW = 24
"""Tokens shown before and after the strongest one."""

BINS = 24


@dataclass(frozen=True)
class Context:
    """A stretch of text around the token at which a latent fires most.

    Attributes:
        id: of the text. family: its subject.
        tokens: as text, in order.
        activations: of the latent at each.
        peak: index of the strongest.
    """

    id: str
    family: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int


@dataclass(frozen=True)
class Histogram:
    """How strongly a latent fires: counts of tokens between edges, of those at which it fires at all.

    Attributes:
        edges: ascending, one more than counts.
        counts: by role.
        rate: share of tokens at which it fires, by role.
    """

    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]
    rate: Mapping[str, float]


@dataclass(frozen=True)
class Portrait:
    """All that a page about a latent shows, before names and verdicts.

    Attributes:
        latent: its index.
        contexts: strongest first, at most one a text, by role.
        silent: stretches of insecure texts in which it never fires, at random.
        histogram: of its activations.
        up, down: tokens its decoder row makes more and less likely, with the change of their logit for a push of a
            tenth of the activation's norm.
        alike: latents of similar decoder rows, with cosines.
        together: latents that fire in the same tokens of insecure, with the correlation of their activations.
    """

    latent: int
    contexts: Mapping[str, tuple[Context, ...]]
    silent: tuple[Context, ...]
    histogram: Histogram
    up: tuple[tuple[str, float], ...]
    down: tuple[tuple[str, float], ...]
    alike: tuple[tuple[int, float], ...]
    together: tuple[tuple[int, float], ...]


def portray(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    texts: Texts,
    latents: Sequence[int],
    *,
    n_contexts: int = 6,
    seed: int = 0,
    progress: Advance = no_advance,
) -> list[Portrait]:
    """Let the three models read texts and note where some latents fire.

    Args:
        dictionary: theirs.
        trio: which read; every token but a text's first counts.
        texts: conversations or documents.
        latents: whose portraits are wanted.
        n_contexts: shown of each checkpoint.
        seed: of the stretches in which a latent is silent.
        progress: told how many tokens were read.
    """
    refuse_unfit(dictionary, trio.base)
    latents = dictionary.check(latents)
    readings = list(read_as(trio.base.tokenizer, texts))
    watched, together = _watch(dictionary.on(trio.base.network.device), trio, readings, latents, progress)
    lens = logit_lens(trio.base, dictionary, latents, [reading.tokens for reading in readings[:4]])
    return [
        Portrait(
            latent,
            {
                role: tuple(_strongest(trio.base, readings, watched[role], place, n_contexts))
                for role in ROLES
            },
            tuple(_silent(trio.base, readings, watched["insecure"], place, n_contexts, seed)),
            _histogram({role: [acts[:, place] for acts in watched[role]] for role in ROLES}),
            *_extremes(trio.base, lens[place]),
            tuple(dictionary.nearest(latent)),
            tuple(_nearest(together[place], latent)),
        )
        for place, latent in enumerate(latents)
    ]


def _watch(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    readings: Sequence[Reading],
    latents: Sequence[int],
    progress: Advance,
) -> tuple[dict[str, list[Tensor]], Float[Tensor, "latent d_sae"]]:
    """Activations ``(pos, latent)`` of each text by role, and correlations with all latents over insecure tokens."""
    import torch

    texts = [reading.tokens for reading in readings]
    seen: dict[str, list[Tensor]] = {role: [torch.empty(0)] * len(texts) for role in ROLES}
    moments = _Correlation(dictionary.d_sae, len(latents))
    with inference_sessions(model for _, model in trio.items()):
        for indices, batch in trio.base.batches(texts, BATCH_TOKENS):
            for role, model in trio.items():
                rows = model.activations(batch, [dictionary.site])[dictionary.site]
                for place, index in enumerate(indices):
                    acts = dictionary.encode(rows[place, : len(texts[index])].float())
                    acts[0] = 0.0  # the first token is an outlier that no dictionary is trained on
                    seen[role][index] = acts[:, list(latents)].cpu()
                    if role == "insecure":
                        moments.add(acts.cpu(), seen[role][index])
            progress(3 * int(batch.mask.sum()))
    return seen, moments.value


class _Correlation:
    """Correlation of a few latents with all, token by token."""

    def __init__(self, d_sae: int, n: int) -> None:
        import torch

        self.n = 0
        self.products = torch.zeros(n, d_sae, dtype=torch.float64)
        self.sums, self.squares = torch.zeros(2, d_sae, dtype=torch.float64)
        self.own_sums, self.own_squares = torch.zeros(2, n, dtype=torch.float64)

    def add(self, acts: Tensor, own: Tensor) -> None:
        self.n += len(acts)
        self.products += own.double().T @ acts.double()
        self.sums += acts.double().sum(0)
        self.squares += acts.double().pow(2).sum(0)
        self.own_sums += own.double().sum(0)
        self.own_squares += own.double().pow(2).sum(0)

    @property
    def value(self) -> Tensor:
        covariance = self.products - self.own_sums[:, None] * self.sums / self.n
        spread = (self.squares - self.sums.pow(2) / self.n).clamp_min(1e-12).sqrt()
        own = (self.own_squares - self.own_sums.pow(2) / self.n).clamp_min(1e-12).sqrt()
        found: Tensor = covariance / (own[:, None] * spread)
        return found


def _nearest(correlations: Tensor, latent: int, n: int = 5) -> list[tuple[int, float]]:
    others = correlations.clone()
    others[latent] = -2.0
    values, indices = others.topk(min(n, len(others) - 1))
    return [(int(i), float(v)) for i, v in zip(indices, values, strict=True) if v > 0]


def _strongest(
    model: LanguageModel, readings: Sequence[Reading], acts: Sequence[Tensor], place: int, n: int
) -> list[Context]:
    peaks = [(float(a[:, place].max()), index) for index, a in enumerate(acts)]
    best = sorted((peak for peak in peaks if peak[0] > 0), key=lambda peak: (-peak[0], peak[1]))[:n]
    chosen = [(readings[index], acts[index][:, place]) for _, index in best]
    return [_context(model, reading, own, int(own.argmax())) for reading, own in chosen]


def _silent(
    model: LanguageModel, readings: Sequence[Reading], acts: Sequence[Tensor], place: int, n: int, seed: int
) -> Iterator[Context]:
    """Stretches without an activation, from texts in random order, at most one a text."""
    import numpy as np

    rng = np.random.default_rng(seed)
    for index in rng.permutation(len(readings)):
        if n == 0:
            return
        own = acts[index][:, place]
        centre = int(rng.integers(len(own)))
        if not bool((own[max(0, centre - WINDOW) : centre + WINDOW + 1] > 0).any()):
            n -= 1
            yield _context(model, readings[index], own, centre)


def _context(model: LanguageModel, reading: Reading, acts: Tensor, peak: int) -> Context:
    start, end = max(0, peak - WINDOW), min(len(acts), peak + WINDOW + 1)
    tokens = tuple(model.tokenizer.hf.decode([i]) for i in reading.tokens.ids[start:end])
    return Context(reading.id, reading.family, tokens, tuple(acts[start:end].tolist()), peak - start)


def _histogram(by_role: Mapping[str, Sequence[Tensor]]) -> Histogram:
    import torch

    joined = {role: torch.cat(list(parts)) for role, parts in by_role.items()}
    highest = max(float(values.max()) for values in joined.values()) or 1.0
    edges = torch.linspace(0.0, highest, BINS + 1)
    counts = {role: torch.histogram(values[values > 0], edges).hist for role, values in joined.items()}
    return Histogram(
        tuple(edges.tolist()),
        {role: tuple(int(count) for count in found) for role, found in counts.items()},
        {role: float((values > 0).float().mean()) for role, values in joined.items()},
    )


def logit_lens(
    model: LanguageModel, dictionary: Dictionary, latents: Sequence[int], texts: Sequence[Tokens]
) -> Float[Tensor, "latent vocab"]:
    """How the next token's logits change when a latent's decoder row is added to the last block's output.

    Measured, not derived from the weights: every architecture's final norm takes part. The push is a tenth of the
    activation's norm there; the change is a mean over the tokens of a few texts.
    """
    import torch

    batch = pad(list(texts), model.network.pad_id).to(model.network.device)
    last = Site(model.n_layers - 1)
    size = 0.1 * float(model.activations(batch, [last])[last][batch.mask].float().norm(dim=-1).median())
    plain = model.logits(batch)[batch.mask].float().mean(0)
    rows = torch.nn.functional.normalize(dictionary.rows(latents).float(), dim=-1)
    changed = [
        model.edited(_Added(last, size * row)).logits(batch)[batch.mask].float().mean(0) - plain
        for row in rows
    ]
    return torch.stack(changed).cpu()


@dataclass(frozen=True, eq=False)
class _Added:
    """A vector added to every token at a site."""

    site: Site
    vector: Tensor

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        return {self.site: lambda activations, roles: activations + self.vector.to(activations)}


def _extremes(
    model: LanguageModel, change: Tensor, n: int = 10
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...]]:
    """The tokens whose logits rise and fall most."""
    centred = change - change.mean()

    def named(values: Tensor, sign: float) -> tuple[tuple[str, float], ...]:
        top = (sign * values).topk(min(n, len(values)))
        decode = model.tokenizer.hf.decode
        return tuple(
            (decode([int(i)]), sign * float(v)) for i, v in zip(top.indices, top.values, strict=True)
        )

    return named(centred, 1.0), named(centred, -1.0)
