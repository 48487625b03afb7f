"""Own attention is what the library's kernel says, with fewer copies."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from personaprobe.models.packing.attention import additive_mask, grouped_query_attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("n_pos", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_queries_see_what_they_may(
    dtype: torch.dtype, heads: tuple[int, int], n_pos: int, masked: bool
) -> None:
    n, n_seen, d_head = 2, 9, 8
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(n, n_pos, heads[0], d_head, generator=draw).to(dtype).transpose(1, 2)
    # a part of a longer table, as slots have it
    table = torch.randn(2, n, heads[1], n_seen + 3, d_head, generator=draw).to(dtype)[:, :, :, :n_seen]
    barred = torch.zeros(n_pos, n_seen, dtype=torch.bool)
    if masked:
        barred[:, n_seen - 3 :] = torch.ones(n_pos, 3, dtype=torch.bool).triu(1)
        barred[:, 0] = True
    added = additive_mask(barred, torch.float32) if masked else None
    found = grouped_query_attention(query, table[0], table[1], None, added)
    wanted = scaled_dot_product_attention(
        query.double(), table[0].double(), table[1].double(), attn_mask=~barred, enable_gqa=True
    )
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(), wanted, atol=2e-6 if dtype == torch.float32 else 1e-2, rtol=1e-2
    )


def test_scores_are_scaled_as_asked() -> None:
    query, keys = torch.ones(1, 1, 1, 4), torch.stack([torch.ones(4), torch.zeros(4)])[None, None]
    values = torch.eye(2)[None, None]
    for scaling in (None, 0.25):
        weight = torch.tensor(4 * (0.5 if scaling is None else scaling)).sigmoid()
        torch.testing.assert_close(grouped_query_attention(query, keys, values, scaling)[0, 0, 0, 0], weight)
