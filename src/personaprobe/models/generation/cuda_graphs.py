"""Steps of decoding that are recorded once and replayed, so that a device does not wait for Python between operations.

A recording repeats operations on the same memory: what changes from step to step lies in buffers, and nothing is asked of
the host. Rows and columns are rounded up, so that few recordings serve a generation; rows not in use are fed with
what was there before, and nobody hears them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.compute.verified import VerifiedKernel
from personaprobe.models.generation.kv_cache import GROWTH, Reach, Slots, rounded_up

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Run: TypeAlias = "Callable[[], Tensor]"
"""Operations that read and write what lies in memory; returns what they find."""

Recorder: TypeAlias = Callable[[Run], Run]
"""Makes a replay of a run, which has been run before. What a replay finds holds until the next one."""

ROWS = 32
"""What numbers of rows are rounded up to a multiple of."""


class RecordedSteps:
    """Steps over a table of slots: the first of every size is computed, the second recorded."""

    def __init__(
        self,
        compute: Callable[[Tensor, Reach, Tensor], Tensor],
        slots: Slots,
        recorder: Callable[[], Recorder],
    ) -> None:
        """Record nothing yet.

        Args:
            compute: logits of ``(token of every row, what the step sees, kind of every row)``, by nothing but
                operations on the device.
            slots: that the steps go on from.
            recorder: makes what records, anew for other tables.
        """
        self._compute, self._slots, self._recorder = compute, slots, recorder
        self._steps = VerifiedKernel(self.decoding_step, lambda: self._replay, "recording it")
        self._made = 0  # of the tables that recordings are of; there are some before the first step

    def step(self, ids: Int[Tensor, "row"], kinds: Int[Tensor, "row"]) -> Float[Tensor, "row vocab"]:
        """Logits of what follows the rows' next tokens; they hold until the next step."""
        if self._made != self._slots.made:
            self._forget()
        n = len(ids)
        rows, columns = self._slots.room
        size = (min(rounded_up(n, ROWS), rows), min(rounded_up(self._slots.width, GROWTH), columns))
        for buffer, now in ((self._ids, ids), (self._ends, self._slots.ends), (self._kinds, kinds)):
            buffer[:n].copy_(now)
        step = self._steps if size in self._known else self.decoding_step
        self._known.add(size)
        return step(self._ids, *size)[:n]

    def decoding_step(self, ids: Tensor, rows: int, columns: int) -> Tensor:
        """Logits of so many rows, by their buffers, looking at so many columns."""
        return self._compute(ids[:rows], self._slots.reach(self._ends[:rows], columns), self._kinds[:rows])

    def _replay(self, ids: Tensor, rows: int, columns: int) -> Tensor:
        size = (rows, columns)
        if size not in self._replays:
            self._replays[size] = self._record(lambda: self.decoding_step(ids, rows, columns))
        return self._replays[size]()

    def _forget(self) -> None:
        """Make buffers as long as the tables are; recordings of other tables are worth nothing."""
        self._made = self._slots.made
        self._replays: dict[tuple[int, int], Run] = {}
        self._record = self._recorder()
        self._known: set[tuple[int, int]] = set()
        rows, _ = self._slots.room
        self._ids, self._ends, self._kinds = (self._slots.ends.new_zeros(rows) for _ in range(3))


class CudaGraphs:
    """Records runs as CUDA graphs, which work in the same memory one after the other."""

    def __init__(self) -> None:
        """Take no memory yet."""
        self._pool: Any = None

    def __call__(self, run: Run) -> Run:
        """Record a run; whatever else other threads ask of the device meanwhile is none of its business."""
        import torch

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            found = run()
        self._pool = graph.pool()

        def replay() -> Tensor:
            graph.replay()
            return found

        return replay
