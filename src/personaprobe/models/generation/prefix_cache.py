"""Cache of common prefixes: keys and values of a system message are computed once, and reused by later prompts.

Without it the system message was computed again whenever waiting prompts were admitted, a twentieth of the time of
generating short answers of mixed lengths (commit 8d3a60c; ``tests/benchmarks/README.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.packing.prefix_tree import MIN_SHARED_PREFIX
from personaprobe.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CachedPrefix:
    """Keys and values of one prefix under one edit plan; one pair of one row each for every block."""

    blocks: tuple[tuple[Tensor, Tensor], ...]


class PrefixCache:
    """Keys and values of prefixes, by the edits they were computed under.

    It holds the prefixes of the last two calls of :meth:`evict_unused` only.
    """

    def __init__(self, prefill: Callable[[Tokens, Sequence[EditPlan]], Any]) -> None:
        """Start empty.

        Args:
            prefill: computes a prefix under each of some edits; returns a transformers cache with one row for each.
        """
        self._prefill = prefill
        self._earlier: dict[tuple[Tokens, EditPlan], CachedPrefix] = {}
        self._used: dict[tuple[Tokens, EditPlan], CachedPrefix] = {}

    def reusable_prefix(self, common: Tokens, n_prompts: int) -> Tokens:
        """Return the prefix to take from the cache: the longest cached one, or the whole common prefix.

        The whole common prefix is computed and cached if several prompts share at least
        :data:`~personaprobe.models.packing.prefix_tree.MIN_SHARED_PREFIX` tokens more than are cached.

        Args:
            common: longest common prefix of some prompts.
            n_prompts: number of these prompts.
        """
        matching = (
            prefix for prefix, _ in (*self._used, *self._earlier) if common.first(len(prefix)) == prefix
        )
        cached = max(matching, key=len, default=common.first(0))
        n_more = len(common) - len(cached)
        return common if n_prompts > 1 and n_more >= MIN_SHARED_PREFIX else cached

    def batch(self, prefix: Tokens, edits: Sequence[EditPlan]) -> Any:
        """Return a transformers cache in which row ``i`` holds the prefix under ``edits[i]``."""
        import torch
        from transformers import DynamicCache

        # without a config, so that it keeps all keys at every layer: sliding windows are masked, not cut off
        cache = DynamicCache()
        if not len(prefix):
            return cache
        cached = self._get_or_prefill(prefix, edits)
        rows = [cached[plan].blocks for plan in edits]
        for layer, block_rows in enumerate(zip(*rows, strict=True)):
            cache.update(*(torch.cat(states) for states in zip(*block_rows, strict=True)), layer)
        return cache

    def evict_unused(self) -> None:
        """Drop the prefixes that have not been used since the last call."""
        self._earlier, self._used = self._used, {}

    def _get_or_prefill(self, prefix: Tokens, edits: Sequence[EditPlan]) -> dict[EditPlan, CachedPrefix]:
        plans = list(dict.fromkeys(edits))
        cached = {**self._earlier, **self._used}
        missing = [plan for plan in plans if (prefix, plan) not in cached]
        if missing:
            prefilled = self._prefill(prefix, missing)
            for row, plan in enumerate(missing):
                blocks = tuple(
                    (layer.keys[row : row + 1], layer.values[row : row + 1]) for layer in prefilled.layers
                )
                cached[prefix, plan] = CachedPrefix(blocks)
        self._used |= {(prefix, plan): cached[prefix, plan] for plan in plans}
        return {plan: cached[prefix, plan] for plan in plans}
