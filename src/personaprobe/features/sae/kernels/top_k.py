"""Where the largest numbers of a matrix stand: what is left of a dictionary's step once its products are sparse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.features.sae.kernels.dispatch import compiled, fits_numba
from personaprobe.features.sae.kernels.sparse import Firing, offsets

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

FEWEST = 4
"""Members of a group below which all are searched at once."""


def largest(pre: Float[Tensor, "row d_sae"], k: int) -> tuple[Float[Tensor, "row k"], Int[Tensor, "row k"]]:
    """Values and places of each row's ``k`` largest, in no order; where fewer are above 0, the rest are any others."""
    if pre.device.type != "cpu" or group_size(pre.shape[1], k) < FEWEST:
        return pre.topk(k, dim=-1, sorted=False)
    values, places = _form(largest_by_group, pre)(pre, k)
    return values, places


def above(pre: Float[Tensor, "row d_sae"], floor: float) -> tuple[Firing, Float[Tensor, "entry"]]:
    """Which numbers are above ``floor``, which is not negative: where and what."""
    values, starts, latents = _form(those_above, pre)(pre, floor)
    return Firing(starts, latents, pre.shape[1]), values


def largest_by_group(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """:func:`largest` without a compiler.

    Only the ``k`` groups with the largest maxima are searched: no other group can hold one of the ``k`` largest, since
    each of those groups holds a larger one.
    """
    n_rows, width = pre.shape
    size = group_size(width, k)
    if width % size:
        return pre.topk(k, dim=-1, sorted=False)
    # a group's members stand far apart, so that maxima are taken in vectors
    groups = as_integers(pre).view(n_rows, size, width // size)
    best = groups.amax(1).topk(k, dim=-1, sorted=False).indices
    members = groups.gather(2, best[:, None, :].expand(-1, size, -1))
    values, chosen = members.flatten(1).topk(k, dim=-1, sorted=False)
    within = best.gather(1, chosen % k)
    return values.view(pre.dtype), torch.div(chosen, k, rounding_mode="floor") * groups.shape[2] + within


def those_above(pre: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers above ``floor``, where each row's begin, and their columns, without a compiler."""
    fires = pre > floor
    return pre[fires], offsets(fires.sum(-1)), fires.nonzero()[:, 1]


def group_size(width: int, k: int) -> int:
    """The power of two with which about as many maxima are searched as members of the groups that are left."""
    return 1 << int(math.log2(max(1.0, width / k)) / 2)


def as_integers(pre: Tensor) -> Tensor:
    """The bits of numbers; those of numbers above 0 are ordered as the numbers are and compared faster."""
    return pre.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[pre.dtype.itemsize])


def _form(plain: Callable[..., Any], pre: Tensor) -> Callable[..., Any]:
    """How a search is done: compiled by Numba where rows lie in memory as it reads them, else plainly."""
    return compiled(plain, "Numba", _same_numbers) if fits_numba(pre, torch.bfloat16) else plain


def _same_numbers(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    """Whether two searches found as large numbers above 0, wherever those stand that are equal."""
    return torch.equal(*(found[0].nan_to_num().clamp(min=0).sort(-1).values for found in (one, other)))
