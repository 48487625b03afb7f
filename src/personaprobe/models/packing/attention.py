"""Attention as slots compute it: the queries that share a key are rows of one product.

A library's kernel wants keys and values repeated for every head that reads them, and under a mask it may look at all
scores several times. On a CPU, where a step of decoding is little more than that, this is most of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

Attending: TypeAlias = "Callable[[Tensor, Tensor, Tensor, float | None, Tensor | None], Tensor]"
"""``(query, keys, values, scaling, mask) -> (batch, pos, head, d_value)``; the former are ``(batch, head, pos, d)``."""


def attended(
    query: Float[Tensor, "batch head pos d_head"],
    keys: Float[Tensor, "batch key_head seen d_head"],
    values: Float[Tensor, "batch key_head seen d_value"],
    scaling: float | None,
    added: Float[Tensor, "*rows seen"] | None = None,
) -> Float[Tensor, "batch head pos d_value"]:
    """Weighted means of values; scores and weights are float32 whatever the dtype of what is read.

    Args:
        query: of ``head / key_head`` neighbouring heads for each head of the keys.
        keys: what queries look at.
        values: what they see there.
        scaling: of scores; None is ``1 / √d_head``.
        added: to the scores, of every query or of all alike.
    """
    import torch

    n, heads, n_pos, d_head = query.shape
    groups, n_seen = n * keys.shape[1], keys.shape[2]
    rows = (query.float() * (d_head**-0.5 if scaling is None else scaling)).reshape(groups, -1, d_head)
    scores = torch.bmm(rows, keys.float().reshape(groups, n_seen, d_head).mT).view(n, heads, n_pos, n_seen)
    if added is not None:
        scores += added
    weights = scores.softmax(-1).to(values.dtype).view(groups, -1, n_seen)
    seen = torch.bmm(weights, values.reshape(groups, n_seen, -1))
    return seen.view(n, heads, n_pos, -1).to(query.dtype)


def added_to_scores(barred: Tensor, dtype: torch.dtype) -> Tensor:
    """What keeps attention from looking where it may not: the dtype's lowest number there, 0 elsewhere."""
    import torch

    return torch.zeros(barred.shape, dtype=dtype, device=barred.device).masked_fill_(
        barred, torch.finfo(dtype).min
    )


@contextmanager
def attending_by(config: Any, name: str, attend: Attending) -> Iterator[None]:
    """Let a model's blocks attend by another function, known to transformers under a name."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def called(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        return attend(query, key, value, scaling, attention_mask), None

    ALL_ATTENTION_FUNCTIONS.register(name, called)
    own = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = own
