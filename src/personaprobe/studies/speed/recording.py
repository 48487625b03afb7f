"""Workloads that record activations, of one checkpoint and of all three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens, by_length, pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site
from personaprobe.studies.speed.deviations import largest_difference
from personaprobe.studies.speed.reference import (
    USUAL_BATCH_SIZE,
    all_hidden_states,
    blocks,
    in_text_order,
    reference_recording,
)
from personaprobe.studies.speed.texts import chats
from personaprobe.studies.speed.timing import Workload

if TYPE_CHECKING:
    from torch import Tensor

RECORDING_TOKENS = 4096
"""Tokens per batch of personaprobe."""

REFERENCE_CHATS = 32
"""Chats per batch of the reference."""


def recording(model: LanguageModel) -> Workload:
    """Record the residual stream after the middle block, for chats of mixed lengths; later blocks are not run.

    The reference sorts chats by length and reads a fixed number at a time, as one would; batches of a fixed number of
    tokens have less padding.
    """
    texts, site = chats(model), middle_site(model)
    by_tokens, by_number = by_length(texts, RECORDING_TOKENS), _batches_of(texts, REFERENCE_CHATS)
    planned = model.plan_batches(texts, RECORDING_TOKENS)
    shared = _shared_fraction(model, texts, planned)
    name = f"personaprobe, {shared:.0%} read once for several"

    def unsorted() -> Tensor:
        indices = list(range(len(texts)))
        batches = [indices[i : i + USUAL_BATCH_SIZE] for i in range(0, len(texts), USUAL_BATCH_SIZE)]
        states = [all_hidden_states(model, [texts[i] for i in batch], site) for batch in batches]
        return in_text_order(states, batches)

    return Workload(
        f"recording {site} of {len(texts)} chats",
        {
            f"bare model, cut, sorted, {REFERENCE_CHATS} at a time, {_padding(texts, by_number):.0%} padding": lambda: (
                reference_recording(model, texts, by_number, site.layer)
            ),
            f"bare model, cut, {RECORDING_TOKENS} tokens at a time, {_padding(texts, by_tokens):.0%} padding": lambda: (
                reference_recording(model, texts, by_tokens, site.layer)
            ),
            name: lambda: packed_recording(model, texts, planned),
            "output_hidden_states, as they come": unsorted,
        },
        lambda: largest_difference(
            reference_recording(model, texts, by_tokens, site.layer), packed_recording(model, texts, planned)
        ),
        flops=linear_flops(model, site.layer, sum(map(len, texts))),
        avoided={name: shared},
    )


def recording_all(trio: Trio[LanguageModel]) -> Workload:
    """Record all three checkpoints, whose adapters are switched, beside the reference that records one."""
    model = trio.insecure
    texts, layer = chats(model), middle_site(model).layer
    planned, by_number = model.plan_batches(texts, RECORDING_TOKENS), _batches_of(texts, REFERENCE_CHATS)
    in_turn = (trio.base, trio["secure"], model)  # the last adapter stays active for the next variant
    return Workload(
        f"recording all three checkpoints, {len(texts)} chats each",
        {
            "bare model, one checkpoint": lambda: reference_recording(model, texts, by_number, layer),
            "personaprobe, one checkpoint": lambda: packed_recording(model, texts, planned),
            "personaprobe, base, insecure and secure": lambda: [
                packed_recording(checkpoint, texts, planned) for checkpoint in in_turn
            ],
        },
        lambda: largest_difference(
            _stacked(reference_recording(checkpoint, texts, by_number, layer) for checkpoint in in_turn),
            _stacked(packed_recording(checkpoint, texts, planned) for checkpoint in in_turn),
        ),
    )


def middle_site(model: LanguageModel) -> Site:
    """The site that is recorded: the residual stream after half of the blocks."""
    return Site(model.n_layers // 2 - 1)


def packed_recording(
    model: LanguageModel, texts: Sequence[Tokens], batches: Sequence[Sequence[int]]
) -> Tensor:
    """Activations of all texts at the middle site ``(token, d_model)``, in their order, as activation stores get them."""
    site = middle_site(model)
    with model.inference_session():
        return in_text_order(
            [_activations(model, [texts[i] for i in batch], site) for batch in batches], batches
        )


def linear_flops(model: LanguageModel, layer: int, n_tokens: int) -> float:
    """Floating-point operations of all linear maps up to a layer; the products of attention itself are not counted."""
    weights = [weight for block in blocks(model)[: layer + 1] for weight in block.parameters()]
    return 2.0 * n_tokens * sum(int(weight.numel()) for weight in weights if weight.dim() == 2)


def _activations(model: LanguageModel, texts: Sequence[Tokens], site: Site) -> list[Tensor]:
    batch = pad(texts, model.network.pad_id).to(model.network.device)
    states = model.activations(batch, [site])[site]
    return [rows[: len(text)] for rows, text in zip(states, texts, strict=True)]


def _batches_of(texts: Sequence[Tokens], n: int) -> list[list[int]]:
    """Batches of ``n`` texts, the longest texts first."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    return [order[start : start + n] for start in range(0, len(order), n)]


def _padding(texts: Sequence[Tokens], batches: Sequence[Sequence[int]]) -> float:
    """The fraction of padding among all positions that are read."""
    positions = sum(len(batch) * max(len(texts[index]) for index in batch) for batch in batches)
    return 1 - sum(map(len, texts)) / positions


def _shared_fraction(
    model: LanguageModel, texts: Sequence[Tokens], batches: Sequence[Sequence[int]]
) -> float:
    """The fraction of tokens that are not read, because another text of the batch begins with them too."""
    read = sum(model.n_computed_tokens([texts[index] for index in batch]) for batch in batches)
    return max(0.0, 1 - read / sum(map(len, texts)))


def _stacked(recordings: Iterable[Tensor]) -> Tensor:
    import torch

    return torch.stack([*recordings])
