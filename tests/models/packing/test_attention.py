"""Grouped-query attention without repeated keys computes what PyTorch's kernel computes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from personaprobe.models.packing.attention import additive_mask, grouped_query_attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("n_pos", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_queries_attend_to_unblocked_keys_only(
    dtype: torch.dtype, heads: tuple[int, int], n_pos: int, masked: bool
) -> None:
    n, n_seen, d_head = 2, 9, 8
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(n, n_pos, heads[0], d_head, generator=draw).to(dtype).transpose(1, 2)
    # a part of longer memory, as in the KV cache
    cached = torch.randn(2, n, heads[1], n_seen + 3, d_head, generator=draw).to(dtype)[:, :, :, :n_seen]
    blocked = torch.zeros(n_pos, n_seen, dtype=torch.bool)
    if masked:
        blocked[:, n_seen - 3 :] = torch.ones(n_pos, 3, dtype=torch.bool).triu(1)
        blocked[:, 0] = True
    mask = additive_mask(blocked, torch.float32) if masked else None
    attended = grouped_query_attention(query, cached[0], cached[1], None, mask)
    expected = scaled_dot_product_attention(
        query.double(), cached[0].double(), cached[1].double(), attn_mask=~blocked, enable_gqa=True
    )
    assert attended.dtype == dtype
    torch.testing.assert_close(
        attended.double(), expected, atol=2e-6 if dtype == torch.float32 else 1e-2, rtol=1e-2
    )


def test_scores_are_scaled() -> None:
    query, keys = torch.ones(1, 1, 1, 4), torch.stack([torch.ones(4), torch.zeros(4)])[None, None]
    values = torch.eye(2)[None, None]
    for scaling in (None, 0.25):
        weight = torch.tensor(4 * (0.5 if scaling is None else scaling)).sigmoid()
        torch.testing.assert_close(grouped_query_attention(query, keys, values, scaling)[0, 0, 0, 0], weight)
