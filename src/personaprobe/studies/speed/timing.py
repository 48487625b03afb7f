"""Time several variants of the same work in turn, round after round, as ratios to the first variant of the same round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from personaprobe.progress import Progress, silent

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Workload:
    """One piece of work, implemented in several ways.

    Attributes:
        name: in words.
        variants: the implementations by name, the reference first.
        deviation: computes how far the other variants are from the reference, in words; called once, before the timing.
        units: how much work one run of a variant does, for variants that do not do equally much.
        flops: floating-point operations of the linear maps in one unit of work; 0 where they were not counted.
        avoided: the fraction of these operations that a variant avoids, because it computes shared beginnings once.
    """

    name: str
    variants: Mapping[str, Callable[[], Any]]
    deviation: Callable[[], str]
    units: Mapping[str, float] = field(default_factory=dict)
    flops: float = 0.0
    avoided: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """The speed of one variant, relative to the reference in the same round.

    Attributes:
        seconds: median over the runs, per unit of work.
        ratio, slowest, fastest: median and range of its speed divided by that of the reference; above 1 is faster.
        mfu: model FLOPs utilisation: operations of its linear maps per second, as a fraction of those of the fastest matrix
            product; None where operations were not counted.
    """

    seconds: float
    ratio: float
    slowest: float
    fastest: float
    mfu: float | None = None


@dataclass(frozen=True)
class TimedWorkload:
    """The speeds of all variants of a workload.

    Attributes:
        name: of the workload.
        deviation: how far the variants are from the reference, in words.
        speeds: by variant, the reference first.
    """

    name: str
    deviation: str
    speeds: Mapping[str, Speed]


def time_workload(
    workload: Workload, rounds: int, progress: Progress = silent, peak: float = 0.0
) -> TimedWorkload:
    """Time all variants in turn, round after round, so that a slow minute of the machine slows all of them.

    Args:
        workload: the variants.
        rounds: runs of each variant.
        progress: advanced by one for every run.
        peak: operations per second from :func:`peak_flops`; 0 leaves utilisation out.
    """
    deviation = workload.deviation()
    seconds: dict[str, list[float]] = {name: [] for name in workload.variants}
    with progress(workload.name, rounds * len(workload.variants), "runs") as advance:
        for _ in range(rounds):
            for name, run in workload.variants.items():
                started = time.perf_counter()
                run()
                _synchronise()
                seconds[name].append((time.perf_counter() - started) / workload.units.get(name, 1.0))
                advance(1)
    reference = next(iter(seconds.values()))
    speeds = {name: _speed(times, reference) for name, times in seconds.items()}
    if peak and workload.flops:
        flops = {name: workload.flops * (1 - workload.avoided.get(name, 0.0)) for name in speeds}
        speeds = {
            name: replace(speed, mfu=flops[name] / speed.seconds / peak) for name, speed in speeds.items()
        }
    return TimedWorkload(workload.name, deviation, speeds)


def _speed(seconds: Sequence[float], reference: Sequence[float]) -> Speed:
    ratios = [theirs / ours for ours, theirs in zip(seconds, reference, strict=True)]
    return Speed(statistics.median(seconds), statistics.median(ratios), min(ratios), max(ratios))


def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int = 9) -> float:
    """Floating-point operations per second of the fastest product of two large matrices."""
    import torch

    n = 8192 if device.type == "cuda" else 2048
    matrix = torch.rand(n, n, device=device).to(
        dtype
    )  # a matrix of ones takes less power, and would be faster
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        _synchronise()
        seconds.append(time.perf_counter() - started)
    return 2.0 * n**3 / min(seconds)


def _synchronise() -> None:
    """Wait until the GPU has finished: it computes after the call that started it has returned."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
