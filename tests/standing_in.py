"""Stand-ins on the CPU for kernels that only GPUs have; they follow the kernels' documentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """Attend within each sequence, causally and aligned at its last key; other memory is left uninitialised, as NaN."""
    assert window_size == (-1, 0)
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    lengths = [bounds.diff().tolist() for bounds in (cu_seq_q, cu_seq_k)]
    assert (max(lengths[0]), max(lengths[1])) == (max_q, max_k)
    attended = torch.full((*query.shape[:2], value.shape[2]), torch.nan, dtype=query.dtype)
    start_q, start_k = 0, 0
    for n_q, n_k in zip(*lengths, strict=True):
        q, k, v = (
            states[at : at + n].transpose(0, 1)
            for states, at, n in ((query, start_q, n_q), (key, start_k, n_k), (value, start_k, n_k))
        )
        causal = torch.ones(n_q, n_k, dtype=torch.bool).tril(n_k - n_q)
        part = scaled_dot_product_attention(q, k, v, attn_mask=causal, scale=scale, enable_gqa=True)
        attended[start_q : start_q + n_q] = part.transpose(0, 1)
        start_q, start_k = start_q + n_q, start_k + n_k
    return attended
