"""Which latents fire: every row's largest, or a batch's, found outside the graph from all pre-activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from personaprobe.compute import onednn
from personaprobe.compute.hardware import is_faster_in_bf16
from personaprobe.features.sae.kernels.sparse import Firing, below_each_other, offsets
from personaprobe.features.sae.kernels.top_k import above, largest

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Project = Callable[["Tensor"], "Tensor"]
"""Gives rows their pre-activations, ``(row, d) → (row, d_sae)``."""

SEARCHED = 512 * 4096
"""Pre-activations that are computed and searched together: few enough to be in the cache still."""

STEP = 64
"""Rows are taken in multiples of so many, since kernels divide other numbers badly."""

SPARE = 32
"""Latents of a row beyond those wanted that a rough product names: the more, the fewer rows are computed in full."""

SURE = 4.0
"""Standard deviations that a rough value is thought to be off at most."""

TYPICAL = 4
"""Candidates of a row of its own that those of a typical row count as much as."""


def affine(matrix: Float[Tensor, "d_sae d"], bias: Float[Tensor, "d_sae"]) -> Project:
    """``x @ matrix.T + bias`` of many ``x``, without a graph."""
    if matrix.device.type == "cpu" and onednn.can_pack(matrix.dtype):
        laid_out = onednn.pack_weight(matrix)
        return lambda x: onednn.linear(x, laid_out, bias)
    return lambda x: torch.addmm(bias, x, matrix.T)


def rough_affine(matrix: Float[Tensor, "d_sae d"], bias: Float[Tensor, "d_sae"]) -> Project:
    """:func:`affine` in bfloat16, of which half as much is written and searched."""
    project = affine(matrix.bfloat16(), bias.bfloat16())
    return lambda x: project(x.bfloat16())


def helps(x: Tensor) -> bool:
    """Whether a rough product is faster where ``x`` is."""
    return x.device.type == "cuda" or (x.device.type == "cpu" and is_faster_in_bf16())


def some_of(x: Float[Tensor, "row d"], d_sae: int) -> Iterator[Float[Tensor, "some d"]]:
    """A part of the rows at a time, so that what is searched was just written."""
    yield from torch.split(x, max(1, SEARCHED // d_sae // STEP) * STEP)


def top_k(
    project: Project, x: Float[Tensor, "row d"], d_sae: int, k: int
) -> tuple[Firing, Float[Tensor, "entry"]]:
    """Each row's ``k`` largest pre-activations, of those above 0: where and what."""
    return _fired(*_largest(project, x, d_sae, k), d_sae)


def preselected(
    x: Float[Tensor, "row d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, "d_sae"],
    rough: Project,
    k: int,
    spare: int = SPARE,
) -> tuple[Firing, Float[Tensor, "entry"]]:
    """:func:`top_k` of ``x @ encoder.T + bias``, of which only what may be among the largest is computed in full.

    Args:
        x: rows, less their centre.
        encoder, bias: of the latents.
        rough: nearly the same map. Its largest ``k + spare`` are computed in full, and show how far off it is. A row of
            which it leaves open whether all of the ``k`` largest are among them is computed in full.
        k: how many fire.
        spare: the more, the fewer rows are left open.
    """
    d_sae = len(encoder)
    guessed, candidates = _largest(rough, x, d_sae, min(k + spare, d_sae))
    full = Firing.each(candidates, d_sae).dots(x, encoder).view_as(candidates) + bias[candidates]
    values, chosen = full.topk(k, dim=-1, sorted=False)
    latents = candidates.gather(-1, chosen)
    left = _left_open(guessed.float(), full, chosen).nonzero().squeeze(1)
    if len(left):
        values[left], latents[left] = largest(torch.addmm(bias, x[left], encoder.T), k)
    return _fired(values, latents, d_sae)


def _largest(project: Project, x: Tensor, d_sae: int, k: int) -> tuple[Tensor, Tensor]:
    """Values and places of each row's ``k`` largest."""
    values, latents = zip(*(largest(project(rows), k) for rows in some_of(x, d_sae)), strict=True)
    return torch.cat(values), torch.cat(latents)


def _left_open(
    guessed: Float[Tensor, "row candidate"],
    full: Float[Tensor, "row candidate"],
    chosen: Int[Tensor, "row k"],
) -> Bool[Tensor, "row"]:
    """Rows in which a latent that is no candidate may be as large as one that is kept.

    How far off it may be is told by the candidates that are not kept, which are as large as it is: the larger a
    pre-activation, the more it is off. They are few, so that those of a typical row count a little.
    """
    off = (full - guessed).square()
    n_spare = max(1, full.shape[1] - chosen.shape[1])
    own = (off.sum(-1) - off.gather(-1, chosen).sum(-1)).clamp_min(0.0)
    variance = (own + TYPICAL * own.median() / n_spare) / (n_spare + TYPICAL)
    return full.gather(-1, chosen).amin(-1) < guessed.amin(-1) + SURE * variance.sqrt()


def batch_top_k(
    project: Project, x: Float[Tensor, "row d"], d_sae: int, k: float, guess: float = 0.0
) -> tuple[Firing, Float[Tensor, "entry"]]:
    """The batch's ``k · rows`` largest pre-activations, of those above 0 (Bussmann et al. 2024): where and what.

    Args:
        project: gives rows their pre-activations.
        x: rows.
        d_sae: how many latents there are.
        k: latents a row on average.
        guess: a value that all of them probably exceed, such as most of the last batch's smallest: it only saves
            work, and a wrong guess is found and mended.
    """
    wanted, floor = int(k * len(x)), max(guess, 0.0)
    firing, values = _above(project, x, d_sae, floor)
    if len(values) < wanted and floor > 0.0:
        return batch_top_k(project, x, d_sae, k)
    return _foremost(firing, values, wanted)


def batch_preselected(
    x: Float[Tensor, "row d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, "d_sae"],
    rough: Project,
    k: float,
    guess: float,
) -> tuple[Firing, Float[Tensor, "entry"]]:
    """:func:`batch_top_k` of ``x @ encoder.T + bias``, of which only what is roughly above ``guess`` is computed in full.

    Args:
        x: rows, less their centre.
        encoder, bias: of the latents.
        rough: nearly the same map. What it is off by is seen where the full values are known; where that leaves open
            whether all of the largest are among them, all are computed in full.
        k: latents a row on average.
        guess: as in :func:`batch_top_k`; at 0 all are computed in full.
    """
    d_sae, wanted = len(encoder), int(k * len(x))
    if guess > 0.0:
        firing, guessed = _above(rough, x, d_sae, guess)
        full = firing.dots(x, encoder) + bias[firing.latents]
        off = float((full - guessed).square().mean().sqrt())
        kept, values = _foremost(firing, full, wanted)
        if len(full) > wanted and float(values.min()) > guess + SURE * off:
            return kept, values
    return batch_top_k(affine(encoder, bias), x, d_sae, k, guess)


def _above(project: Project, x: Tensor, d_sae: int, floor: float) -> tuple[Firing, Tensor]:
    """Pre-activations above ``floor``: where and what."""
    patterns, found = zip(*(above(project(rows), floor) for rows in some_of(x, d_sae)), strict=True)
    return below_each_other(patterns), torch.cat(found)


def _foremost(firing: Firing, values: Tensor, n: int) -> tuple[Firing, Tensor]:
    """The ``n`` largest of all entries."""
    if len(values) <= n:
        return firing, values
    keep = torch.zeros_like(values, dtype=torch.bool)
    keep[values.topk(n, sorted=False).indices] = True
    return firing.only(keep), values[keep]


def _fired(values: Tensor, latents: Tensor, d_sae: int) -> tuple[Firing, Tensor]:
    """Those of each row's latents that are above 0."""
    fires = values > 0
    if bool(fires.all()):
        return Firing.each(latents, d_sae), values.flatten()
    return Firing(offsets(fires.sum(-1)), latents[fires], d_sae), values[fires]
