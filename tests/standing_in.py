"""Stand-ins for kernels that only GPUs have, which keep to what their makers say of them."""

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
    """As torch tells it: each sequence by itself, causal from its last key; all else is left as memory was."""
    assert window_size == (-1, 0)
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    lengths = [bounds.diff().tolist() for bounds in (cu_seq_q, cu_seq_k)]
    assert (max(lengths[0]), max(lengths[1])) == (max_q, max_k)
    found = torch.full((*query.shape[:2], value.shape[2]), torch.nan, dtype=query.dtype)
    at_q, at_k = 0, 0
    for n_q, n_k in zip(*lengths, strict=True):
        q, k, v = (
            states[at : at + n].transpose(0, 1)
            for states, at, n in ((query, at_q, n_q), (key, at_k, n_k), (value, at_k, n_k))
        )
        causal = torch.ones(n_q, n_k, dtype=torch.bool).tril(n_k - n_q)
        seen = scaled_dot_product_attention(q, k, v, attn_mask=causal, scale=scale, enable_gqa=True)
        found[at_q : at_q + n_q] = seen.transpose(0, 1)
        at_q, at_k = at_q + n_q, at_k + n_k
    return found
