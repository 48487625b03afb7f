"""Copies from a device arrive unchanged, and each job is awaited only after the next has been started."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from personaprobe.compute.async_copy import copy_to_cpu_async, prefetch

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_copies_arrive_unchanged_while_the_device_goes_on_computing(device: str) -> None:
    sources = {name: torch.arange(10_000.0, device=device) + name for name in range(3)}
    expected = {name: tensor.cpu() for name, tensor in sources.items()}
    wait = copy_to_cpu_async({name: tensor * 1.0 for name, tensor in sources.items()})
    for _ in range(20):  # would overwrite the sources' memory if it had been freed
        torch.full((10_000,), -1.0, device=device)
    copies = wait()
    assert copies.keys() == expected.keys()
    for name, tensor in copies.items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_each_job_is_awaited_only_after_the_next_was_started(n: int) -> None:
    events: list[str] = []

    def jobs() -> Iterator[tuple[int, Callable[[], int]]]:
        for number in range(n):
            events.append(f"start {number}")
            yield number, lambda number=number: events.append(f"wait {number}") or 10 * number

    assert list(prefetch(jobs())) == [(number, 10 * number) for number in range(n)]
    starts, waits = ([f"{event} {number}" for number in range(n)] for event in ("start", "wait"))
    interleaved = [event for pair in zip(starts[1:], waits, strict=False) for event in pair]
    assert events == [*starts[:1], *interleaved, *waits[-1:]]
