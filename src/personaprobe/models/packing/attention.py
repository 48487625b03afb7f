"""Grouped-query attention over the KV cache without repeating keys: all queries of one key head form one matrix product.

transformers repeats keys and values for every query head that shares them, and under a mask looks at all scores
several times. On a CPU, where a decoding step attends to few tokens, that is most of attention's time. Together
with packed weights and one-pass norms it raised generation of answers of mixed lengths from 1.3 to 1.8 ×
``generate``'s speed (commit 7801669; not measured on its own).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor


def grouped_query_attention(
    query: Float[Tensor, "batch head pos d_head"],
    keys: Float[Tensor, "batch key_head seen d_head"],
    values: Float[Tensor, "batch key_head seen d_value"],
    scaling: float | None,
    mask: Float[Tensor, "*rows seen"] | None = None,
) -> Float[Tensor, "batch head pos d_value"]:
    """Compute softmax attention; scores and weights are float32 whatever the dtype of the inputs.

    Args:
        query: with ``head / key_head`` neighbouring heads for each key head.
        keys: of the tokens attended to.
        values: of the tokens attended to.
        scaling: factor of the scores; None for ``1 / √d_head``.
        mask: added to the scores of every query, or of all alike; see :func:`additive_mask`.
    """
    import torch

    n, heads, n_pos, d_head = query.shape
    groups, n_seen = n * keys.shape[1], keys.shape[2]
    # the queries of a key head are rows of one matrix: the keys stay where they are, and are read once for all of them
    rows = (query.float() * (d_head**-0.5 if scaling is None else scaling)).reshape(groups, -1, d_head)
    scores = torch.bmm(rows, keys.float().reshape(groups, n_seen, d_head).mT).view(n, heads, n_pos, n_seen)
    if mask is not None:
        scores += mask
    weights = scores.softmax(-1).to(values.dtype).view(groups, -1, n_seen)
    attended = torch.bmm(weights, values.reshape(groups, n_seen, -1))
    return attended.view(n, heads, n_pos, -1).to(query.dtype)


def additive_mask(blocked: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask into one that is added to scores: the dtype's lowest number where blocked, 0 elsewhere."""
    import torch

    # not −∞: a fully blocked row, such as padding, would become NaN
    return torch.zeros(blocked.shape, dtype=dtype, device=blocked.device).masked_fill_(
        blocked, torch.finfo(dtype).min
    )
