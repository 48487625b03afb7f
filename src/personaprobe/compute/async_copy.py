"""Asynchronous copies from the GPU to pinned CPU memory, overlapping with computation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def copy_to_cpu_async(tensors: Mapping[K, Tensor]) -> Callable[[], dict[K, Tensor]]:
    """Start to copy tensors to the CPU, and return a function that waits for the copies.

    A CUDA device copies to pinned memory on a stream of its own, and meanwhile computes the next batch. Other devices
    copy at once. The gain has not been measured on a GPU.

    Args:
        tensors: at least one, all on one device.
    """
    import torch

    device = next(iter(tensors.values())).device
    if device.type != "cuda":
        copied_already = {key: tensor.cpu() for key, tensor in tensors.items()}
        return lambda: copied_already
    stream = _copy_stream(device)
    # the copies may only start once the tensors have been computed
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        copies = {
            key: torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
            for key, tensor in tensors.items()
        }
        finished = stream.record_event()
    for tensor in tensors.values():
        # otherwise the allocator would reuse the tensor's memory while it is still being copied
        tensor.record_stream(stream)

    def wait() -> dict[K, Tensor]:
        finished.synchronize()
        return copies

    return wait


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def prefetch(jobs: Iterable[tuple[K, Callable[[], V]]]) -> Iterator[tuple[K, V]]:
    """Wait for each job only after the next one has been started.

    Args:
        jobs: pairs of a key and a function that waits for the job's result; a job starts when its pair is drawn.

    Yields:
        The key and the result of each job, in order.
    """
    running: tuple[K, Callable[[], V]] | None = None
    for started in jobs:
        if running is not None:
            yield running[0], running[1]()
        running = started
    if running is not None:
        yield running[0], running[1]()
