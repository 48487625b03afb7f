"""One check of a loaded model: what it compared, how far off it was, and which part of the program relies on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.compute.out_of_memory import refuse_out_of_memory
from personaprobe.models.network import Network, Reliance
from personaprobe.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: the law that was checked.
        deviation: the largest relative deviation; infinite where the check could not run.
        passed: whether that is within rounding.
        needed_by: the part that relies on it.
    """

    name: str
    deviation: float
    passed: bool
    needed_by: Reliance = "model"

    def __str__(self) -> str:
        return f"{self.name} (off by {self.deviation:.2g})"


def probe_tokens(vocab_size: int) -> list[Tokens]:
    """Two short conversations of unequal length, spread over the vocabulary."""
    first = tuple((7 + 131 * i) % vocab_size for i in range(9))
    second = tuple((11 + 53 * i) % vocab_size for i in range(6))
    return [Tokens.prompt(ids[:4]).followed_by(ids[4:]) for ids in (first, second)]


def compare(name: str, network: Network, one: Tensor, other: Tensor, needed_by: Reliance = "model") -> Check:
    """Compare two results that should be equal: their largest difference, relative to the largest value."""
    deviation = float((one - other).abs().max() / other.abs().max().clamp_min(1e-6))
    return Check(name, deviation, deviation <= _tolerance(network), needed_by)


def _tolerance(network: Network) -> float:
    import torch

    return 1e-3 if network.dtype == torch.float32 else 0.15


def guarded(
    name: str, checks: Callable[[], Iterable[Check]], needed_by: Reliance = "model"
) -> Iterator[Check]:
    """Run checks; an architecture whose code stops with an error fails them.

    Args:
        name: of the failed check where an error ends them.
        checks: runs them.
        needed_by: the part that relies on them.
    """
    try:
        yield from checks()
    except (
        Exception
    ) as error:  # any other error of a stranger's architecture means that this cannot be done with it
        refuse_out_of_memory(error)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        yield Check(f"{name} ({reason})", float("inf"), passed=False, needed_by=needed_by)
