"""What leaves a device arrives as it was, one piece behind what is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from personaprobe.compute.async_copy import leaving, one_ahead

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_what_leaves_arrives_on_the_cpu_though_the_device_goes_on(device: str) -> None:
    sent = {name: torch.arange(10_000.0, device=device) + name for name in range(3)}
    expected = {name: tensor.cpu() for name, tensor in sent.items()}
    landed = leaving({name: tensor * 1.0 for name, tensor in sent.items()})
    for _ in range(20):  # takes the memory of what was sent, if it was given away
        torch.full((10_000,), -1.0, device=device)
    found = landed()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_each_piece_is_waited_for_when_the_next_was_begun(n: int) -> None:
    told: list[str] = []

    def begun() -> Iterator[tuple[int, Callable[[], int]]]:
        for number in range(n):
            told.append(f"begin {number}")
            yield number, lambda number=number: told.append(f"wait {number}") or 10 * number

    assert list(one_ahead(begun())) == [(number, 10 * number) for number in range(n)]
    begins, waits = ([f"{what} {number}" for number in range(n)] for what in ("begin", "wait"))
    woven = [each for pair in zip(begins[1:], waits, strict=False) for each in pair]
    assert told == [*begins[:1], *woven, *waits[-1:]]
