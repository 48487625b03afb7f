"""CUDA-graph capture of the decoding step: its operations are recorded once and replayed, without Python in between.

A graph repeats operations on the same memory. So everything that changes between steps lies in preallocated
buffers, and no operation may wait for the host. Rows and positions are rounded up, so that a few captured graphs
cover a generation; unused rows compute on stale values, and their outputs are ignored. Not measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.compute.verified import VerifiedKernel
from personaprobe.models.generation.kv_cache import CAPACITY_STEP, CacheView, KVCache, round_up

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

DeviceFunction: TypeAlias = "Callable[[], Tensor]"
"""Operations that read and write fixed memory of a device, and return a tensor in it."""

Capture: TypeAlias = Callable[[DeviceFunction], DeviceFunction]
"""Turns a function that has run before into its replay. The replay's result holds until the next replay."""

ROW_STEP = 32
"""The number of rows of a captured step is a multiple of this."""


class GraphedDecodeStep:
    """Decoding steps over a KV cache; the first step of every size is computed, the second one captured and replayed."""

    def __init__(
        self,
        compute: Callable[[Tensor, CacheView, Tensor], Tensor],
        cache: KVCache,
        new_capture: Callable[[], Capture],
    ) -> None:
        """Capture nothing yet.

        Args:
            compute: logits of ``(token of every row, view of the cache, kind of every row)``, by operations on the
                device alone. The kind of a row is the index of its edit plan.
            cache: that the steps read and write.
            new_capture: makes what captures; called again whenever the cache has been allocated anew.
        """
        self._compute, self._cache, self._new_capture = compute, cache, new_capture
        self._step = VerifiedKernel(self.decoding_step, lambda: self._replay, "CUDA graphs")
        self._generation = 0  # of the cache whose memory the graphs use; the cache's first is 1

    def step(self, ids: Int[Tensor, "row"], kinds: Int[Tensor, "row"]) -> Float[Tensor, "row vocab"]:
        """Return the logits of the rows' next tokens; they hold until the next step."""
        if self._generation != self._cache.generation:
            self._reset()
        n = len(ids)
        max_rows, max_positions = self._cache.capacity
        size = (
            min(round_up(n, ROW_STEP), max_rows),
            min(round_up(self._cache.n_positions, CAPACITY_STEP), max_positions),
        )
        for buffer, values in (
            (self._ids, ids),
            (self._positions, self._cache.positions),
            (self._kinds, kinds),
        ):
            buffer[:n].copy_(values)
        # the first step of a size runs outside a graph: it warms up libraries that may not allocate while capturing
        step = self._step if size in self._seen_sizes else self.decoding_step
        self._seen_sizes.add(size)
        return step(self._ids, *size)[:n]

    def decoding_step(self, ids: Tensor, n_rows: int, n_positions: int) -> Tensor:
        """Compute the logits of the first rows of the buffers, attending to the first positions of the cache."""
        view = self._cache.view(self._positions[:n_rows], n_positions)
        return self._compute(ids[:n_rows], view, self._kinds[:n_rows])

    def _replay(self, ids: Tensor, n_rows: int, n_positions: int) -> Tensor:
        size = (n_rows, n_positions)
        if size not in self._replays:
            self._replays[size] = self._capture(lambda: self.decoding_step(ids, n_rows, n_positions))
        return self._replays[size]()

    def _reset(self) -> None:
        """Allocate buffers as long as the cache, and drop graphs that use memory of an earlier cache."""
        self._generation = self._cache.generation
        self._replays: dict[tuple[int, int], DeviceFunction] = {}
        self._capture = self._new_capture()
        self._seen_sizes: set[tuple[int, int]] = set()
        rows, _ = self._cache.capacity
        self._ids, self._positions, self._kinds = (self._cache.positions.new_zeros(rows) for _ in range(3))


class CudaGraphCapture:
    """Captures functions as CUDA graphs that share one pool of memory, since they run one after another."""

    def __init__(self) -> None:
        """Take no memory yet."""
        self._pool: Any = None

    def __call__(self, function: DeviceFunction) -> DeviceFunction:
        """Capture a function, and return its replay."""
        import torch

        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may use the device meanwhile, and are not captured
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = function()
        self._pool = graph.pool()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
