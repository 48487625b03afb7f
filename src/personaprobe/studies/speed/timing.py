"""Works timed beside each other: contenders in turn, round after round, as ratios to the first of the same round."""

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
class Work:
    """One thing that is done in several ways.

    Attributes:
        name: what.
        contenders: ways to do it, the reference first.
        deviation: how far the others are from the reference, in words; run once before anything is timed.
        units: how much work one run of each contender is, where they do not do equally much.
        flop: floating-point operations that the linear maps of a unit take; 0 where nobody counted them.
        spared: the share of them that a contender leaves out, as it computes once what is the same.
    """

    name: str
    contenders: Mapping[str, Callable[[], Any]]
    deviation: Callable[[], str]
    units: Mapping[str, float] = field(default_factory=dict)
    flop: float = 0.0
    spared: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """One contender's speed, relative to the reference of the same round.

    Attributes:
        seconds: median of a run.
        ratio, slowest, fastest: median and range of its speed over the reference's.
        mfu: model FLOPs utilisation: what its linear maps compute a second, as a share of the fastest product of matrices;
            None where it was not counted.
    """

    seconds: float
    ratio: float
    slowest: float
    fastest: float
    mfu: float | None = None


@dataclass(frozen=True)
class Measured:
    """A work that was timed.

    Attributes:
        name: what.
        deviation: how far contenders are from the reference.
        speeds: by contender, the reference first.
    """

    name: str
    deviation: str
    speeds: Mapping[str, Speed]


def measure(work: Work, rounds: int, progress: Progress = silent, peak: float = 0.0) -> Measured:
    """Time all contenders in turn, round after round, so that a slow minute of the machine slows all of them.

    Args:
        work: what is timed.
        rounds: runs of each contender.
        progress: told of every run.
        peak: from :func:`peak_flops`; 0 leaves utilisation out.
    """
    deviation = work.deviation()
    seconds: dict[str, list[float]] = {name: [] for name in work.contenders}
    with progress(work.name, rounds * len(work.contenders), "runs") as advance:
        for _ in range(rounds):
            for name, run in work.contenders.items():
                started = time.perf_counter()
                run()
                _finished()
                seconds[name].append((time.perf_counter() - started) / work.units.get(name, 1.0))
                advance(1)
    reference = next(iter(seconds.values()))
    speeds = {name: _speed(times, reference) for name, times in seconds.items()}
    if peak and work.flop:
        flops = {name: work.flop * (1 - work.spared.get(name, 0.0)) for name in speeds}
        speeds = {name: replace(each, mfu=flops[name] / each.seconds / peak) for name, each in speeds.items()}
    return Measured(work.name, deviation, speeds)


def _speed(times: Sequence[float], reference: Sequence[float]) -> Speed:
    ratios = [theirs / own for own, theirs in zip(times, reference, strict=True)]
    return Speed(statistics.median(times), statistics.median(ratios), min(ratios), max(ratios))


def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int = 9) -> float:
    """Floating-point operations a second of the fastest product of large matrices."""
    import torch

    n = 8192 if device.type == "cuda" else 2048
    matrix = torch.rand(n, n, device=device).to(dtype)  # of ones it would be faster: they take less power
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        _finished()
        seconds.append(time.perf_counter() - started)
    return 2.0 * n**3 / min(seconds)


def _finished() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
