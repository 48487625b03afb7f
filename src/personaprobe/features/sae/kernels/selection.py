"""Selection of active latents, without a graph: the largest pre-activations of every row, or of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from personaprobe.compute import onednn
from personaprobe.compute.hardware import is_faster_in_bf16
from personaprobe.features.sae.kernels.sparse import ActiveLatents, concatenate_rows, row_offsets
from personaprobe.features.sae.kernels.top_k import entries_above, row_top_k

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Project = Callable[["Tensor"], "Tensor"]
"""Computes pre-activations of rows, ``(row, d) → (row, d_sae)``."""

CHUNK_ELEMENTS = 512 * 4096
"""Pre-activations that are computed and searched together. They must still be in the cache when they are searched."""

ROW_MULTIPLE = 64
"""Chunks hold a multiple of this many rows, because matrix kernels divide other numbers of rows badly."""

N_SPARE = 32
"""Candidates per row beyond ``k`` in a preselection. More candidates leave fewer rows uncertain."""

CERTAIN_DEVIATIONS = 4.0
"""Standard deviations by which a bfloat16 pre-activation is assumed to be off at most."""

TYPICAL_WEIGHT = 4
"""Weight of the median row's error, in candidates, when a row's own error is estimated."""


def affine(matrix: Float[Tensor, "d_sae d"], bias: Float[Tensor, "d_sae"]) -> Project:
    """A function that computes ``x @ matrix.T + bias``, without a graph.

    On CPUs the weights are packed once for oneDNN, instead of at every product.
    """
    if matrix.device.type == "cpu" and onednn.can_pack(matrix.dtype):
        packed_matrix = onednn.pack_weight(matrix)
        return lambda x: onednn.linear(x, packed_matrix, bias)
    return lambda x: torch.addmm(bias, x, matrix.T)


def bf16_affine(matrix: Float[Tensor, "d_sae d"], bias: Float[Tensor, "d_sae"]) -> Project:
    """:func:`affine` in bfloat16: half as many bytes to write and to search."""
    project = affine(matrix.bfloat16(), bias.bfloat16())
    return lambda x: project(x.bfloat16())


def bf16_is_faster(x: Tensor) -> bool:
    """Whether a preselection in bfloat16 is faster on the device of ``x``."""
    return x.device.type == "cuda" or (x.device.type == "cpu" and is_faster_in_bf16())


def row_chunks(x: Float[Tensor, "row d"], d_sae: int) -> Iterator[Float[Tensor, "chunk d"]]:
    """The rows in chunks whose pre-activations fit into the cache."""
    yield from torch.split(x, max(1, CHUNK_ELEMENTS // d_sae // ROW_MULTIPLE) * ROW_MULTIPLE)


def top_k(
    project: Project, x: Float[Tensor, "row d"], d_sae: int, k: int
) -> tuple[ActiveLatents, Float[Tensor, "entry"]]:
    """Pattern and values of each row's ``k`` largest pre-activations, without those not above 0."""
    return _positive_entries(*_chunked_top_k(project, x, d_sae, k), d_sae)


def preselected_top_k(
    x: Float[Tensor, "row d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, "d_sae"],
    rough: Project,
    k: int,
    n_spare: int = N_SPARE,
) -> tuple[ActiveLatents, Float[Tensor, "entry"]]:
    """:func:`top_k` of ``x @ encoder.T + bias``, of which only candidates are computed in float32.

    The ``k + n_spare`` largest rough pre-activations of a row are its candidates. Rows whose top k is not certain are
    computed in full. Along a training this found at least 99.998 % of the exact top k
    (``tests/benchmarks/results/preselection-topk-amd-epyc-avx512.json``), and a TopK step is 10.3 × SAELens' instead of
    7.9 × (``dictionaries-amd-epyc-avx512.json``).

    Args:
        x: rows minus their centre.
        encoder, bias: of the latents.
        rough: the same map in bfloat16.
        k: active latents per row.
        n_spare: further candidates per row.
    """
    d_sae = len(encoder)
    rough_values, candidates = _chunked_top_k(rough, x, d_sae, min(k + n_spare, d_sae))
    pattern = ActiveLatents.from_rectangle(candidates, d_sae)
    exact_values = pattern.dots(x, encoder).view_as(candidates) + bias[candidates]
    values, chosen = exact_values.topk(k, dim=-1, sorted=False)
    latents = candidates.gather(-1, chosen)
    uncertain = _uncertain_rows(rough_values.float(), exact_values, chosen).nonzero().squeeze(1)
    if len(uncertain):
        values[uncertain], latents[uncertain] = row_top_k(torch.addmm(bias, x[uncertain], encoder.T), k)
    return _positive_entries(values, latents, d_sae)


def _chunked_top_k(project: Project, x: Tensor, d_sae: int, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices of each row's ``k`` largest pre-activations."""
    values, latents = zip(*(row_top_k(project(rows), k) for rows in row_chunks(x, d_sae)), strict=True)
    return torch.cat(values), torch.cat(latents)


def _uncertain_rows(
    rough: Float[Tensor, "row candidate"],
    exact: Float[Tensor, "row candidate"],
    chosen: Int[Tensor, "row k"],
) -> Bool[Tensor, "row"]:
    """Rows whose top k is not certain: a latent outside the candidates might exceed the smallest chosen value.

    The error of the rough values is estimated per row from the discarded candidates, since errors grow with the
    pre-activation and discarded candidates are about as large as latents outside. They are few, so that the estimate is
    shrunk towards the median row.
    """
    squared_errors = (exact - rough).square()
    n_discarded = max(1, exact.shape[1] - chosen.shape[1])
    own_error = (squared_errors.sum(-1) - squared_errors.gather(-1, chosen).sum(-1)).clamp_min(0.0)
    variance = (own_error + TYPICAL_WEIGHT * own_error.median() / n_discarded) / (
        n_discarded + TYPICAL_WEIGHT
    )
    return exact.gather(-1, chosen).amin(-1) < rough.amin(-1) + CERTAIN_DEVIATIONS * variance.sqrt()


def batch_top_k(
    project: Project, x: Float[Tensor, "row d"], d_sae: int, k: float, guess: float = 0.0
) -> tuple[ActiveLatents, Float[Tensor, "entry"]]:
    """Pattern and values of the batch's ``k · rows`` largest pre-activations above 0 (Bussmann et al. 2024).

    Args:
        project: computes pre-activations.
        x: rows.
        d_sae: number of latents.
        k: active latents per row, on average.
        guess: a value that all results probably exceed, such as a share of the last batch's smallest. It saves work;
            a guess that is too high is detected, and the search repeated without it.
    """
    n_wanted, floor = int(k * len(x)), max(guess, 0.0)
    active, values = _chunked_above(project, x, d_sae, floor)
    if len(values) < n_wanted and floor > 0.0:
        return batch_top_k(project, x, d_sae, k)
    return _keep_largest(active, values, n_wanted)


def preselected_batch_top_k(
    x: Float[Tensor, "row d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, "d_sae"],
    rough: Project,
    k: float,
    guess: float,
) -> tuple[ActiveLatents, Float[Tensor, "entry"]]:
    """:func:`batch_top_k` of ``x @ encoder.T + bias``, of which only entries roughly above ``guess`` are exact.

    If the error of the rough values leaves the result uncertain, the whole batch is computed in float32. Along a training
    this found at least 99.995 % of the exact entries
    (``tests/benchmarks/results/preselection-batchtopk-amd-epyc-avx512.json``), and a BatchTopK step is 11.8 × SAELens'
    instead of 8.6 × (``dictionaries-amd-epyc-avx512.json``).

    Args:
        x: rows minus their centre.
        encoder, bias: of the latents.
        rough: the same map in bfloat16.
        k: active latents per row, on average.
        guess: as in :func:`batch_top_k`; at 0 the whole batch is computed in float32.
    """
    d_sae, n_wanted = len(encoder), int(k * len(x))
    if guess > 0.0:
        candidates, rough_values = _chunked_above(rough, x, d_sae, guess)
        exact_values = candidates.dots(x, encoder) + bias[candidates.latents]
        error = float((exact_values - rough_values).square().mean().sqrt())
        active, values = _keep_largest(candidates, exact_values, n_wanted)
        if len(exact_values) > n_wanted and float(values.min()) > guess + CERTAIN_DEVIATIONS * error:
            return active, values
    return batch_top_k(affine(encoder, bias), x, d_sae, k, guess)


def _chunked_above(project: Project, x: Tensor, d_sae: int, floor: float) -> tuple[ActiveLatents, Tensor]:
    """Pattern and values of the pre-activations above ``floor``."""
    chunks = (entries_above(project(rows), floor) for rows in row_chunks(x, d_sae))
    patterns, values = zip(*chunks, strict=True)
    return concatenate_rows(patterns), torch.cat(values)


def _keep_largest(active: ActiveLatents, values: Tensor, n: int) -> tuple[ActiveLatents, Tensor]:
    """The ``n`` largest of all entries."""
    if len(values) <= n:
        return active, values
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[values.topk(n, sorted=False).indices] = True
    return active.filtered(mask), values[mask]


def _positive_entries(values: Tensor, latents: Tensor, d_sae: int) -> tuple[ActiveLatents, Tensor]:
    """The entries of a rectangle of top-k results that are above 0."""
    is_positive = values > 0
    if bool(is_positive.all()):
        return ActiveLatents.from_rectangle(latents, d_sae), values.flatten()
    return ActiveLatents(row_offsets(is_positive.sum(-1)), latents[is_positive], d_sae), values[is_positive]
