"""Search for the largest pre-activations of each row, and for those above a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.features.sae.kernels.dispatch import compiled_kernel, fits_numba
from personaprobe.features.sae.kernels.sparse import ActiveLatents, row_offsets

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

MIN_GROUP_SIZE = 4
"""Group size below which ``torch.topk`` searches the whole row."""


def row_top_k(
    pre_activations: Float[Tensor, "row d_sae"], k: int
) -> tuple[Float[Tensor, "row k"], Int[Tensor, "row k"]]:
    """Values and indices of each row's ``k`` largest entries, unordered.

    If fewer than ``k`` entries of a row are above 0, the others are arbitrary entries not above 0.
    """
    if pre_activations.device.type != "cpu" or group_size(pre_activations.shape[1], k) < MIN_GROUP_SIZE:
        return pre_activations.topk(k, dim=-1, sorted=False)
    values, indices = _fastest(top_k_by_group, pre_activations)(pre_activations, k)
    return values, indices


def entries_above(
    pre_activations: Float[Tensor, "row d_sae"], threshold: float
) -> tuple[ActiveLatents, Float[Tensor, "entry"]]:
    """Pattern and values of all entries above ``threshold``, which must not be negative."""
    values, starts, latents = _fastest(values_above, pre_activations)(pre_activations, threshold)
    return ActiveLatents(starts, latents, pre_activations.shape[1]), values


def top_k_by_group(pre_activations: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """:func:`row_top_k` in plain torch.

    Only the ``k`` groups with the largest maxima are searched. No other group can hold one of the ``k`` largest entries,
    because each of the ``k`` groups holds a larger one.
    """
    n_rows, width = pre_activations.shape
    size = group_size(width, k)
    if width % size:
        return pre_activations.topk(k, dim=-1, sorted=False)
    # The members of a group are strided, so that maxima of neighbouring groups are taken in one vector instruction.
    groups = as_ordered_integers(pre_activations).view(n_rows, size, width // size)
    best_groups = groups.amax(1).topk(k, dim=-1, sorted=False).indices
    members = groups.gather(2, best_groups[:, None, :].expand(-1, size, -1))
    values, chosen = members.flatten(1).topk(k, dim=-1, sorted=False)
    within_group = best_groups.gather(1, chosen % k)
    indices = torch.div(chosen, k, rounding_mode="floor") * groups.shape[2] + within_group
    return values.view(pre_activations.dtype), indices


def values_above(pre_activations: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Values above ``threshold``, the CSR offsets of the rows, and the columns, in plain torch."""
    is_above = pre_activations > threshold
    return pre_activations[is_above], row_offsets(is_above.sum(-1)), is_above.nonzero()[:, 1]


def group_size(width: int, k: int) -> int:
    """The power of two near ``sqrt(width / k)``, for which the two searches are about equally long.

    The first search compares ``width / size`` maxima, the second ``k · size`` members.
    """
    return 1 << int(math.log2(max(1.0, width / k)) / 2)


def as_ordered_integers(values: Tensor) -> Tensor:
    """The bits of floats as integers, which are compared faster. For floats above 0 the order is the same."""
    return values.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[values.dtype.itemsize])


def _fastest(plain: Callable[..., Any], pre_activations: Tensor) -> Callable[..., Any]:
    """The Numba kernel for contiguous rows on a CPU, else the plain function."""
    is_supported = fits_numba(pre_activations, torch.bfloat16)
    return compiled_kernel(plain, "Numba", _same_values) if is_supported else plain


def _same_values(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    """Whether two searches found the same values above 0; equal values may have different indices."""
    return torch.equal(*(result[0].nan_to_num().clamp(min=0).sort(-1).values for result in (one, other)))
