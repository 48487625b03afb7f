"""What leaves a device while it goes on computing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def leaving(tensors: Mapping[K, Tensor]) -> Callable[[], dict[K, Tensor]]:
    """Start copying tensors of one device to the CPU; returns what waits for them.

    From CUDA they go to pinned memory on a stream of their own, so that the device meanwhile computes what is asked of it
    next. From elsewhere they are copied at once.
    """
    import torch

    device = next(iter(tensors.values())).device
    if device.type != "cuda":
        here = {key: tensor.cpu() for key, tensor in tensors.items()}
        return lambda: here
    aside = _stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        copies = {
            key: torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
            for key, tensor in tensors.items()
        }
        copied = aside.record_event()
    for tensor in tensors.values():
        tensor.record_stream(aside)  # or its memory would be given away before it was copied

    def landed() -> dict[K, Tensor]:
        copied.synchronize()
        return copies

    return landed


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def one_ahead(begun: Iterable[tuple[K, Callable[[], V]]]) -> Iterator[tuple[K, V]]:
    """Wait for each piece of work only when the next one was begun.

    Args:
        begun: work with its key; it begins when it is taken from here, and its function waits for it.
    """
    before: tuple[K, Callable[[], V]] | None = None
    for now in begun:
        if before is not None:
            yield before[0], before[1]()
        before = now
    if before is not None:
        yield before[0], before[1]()
