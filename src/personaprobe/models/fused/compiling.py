"""Functions compiled where they are first used, held against their eager form there, and eager wherever that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from personaprobe.models.backing_off import tell
from personaprobe.models.fused.agreement import close
from personaprobe.models.hardware import has_vanished

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Compiled:
    """A function of tensors that ``torch.compile`` makes one kernel of.

    The first call of every device and dtype is computed both ways. Where the compiler is missing or fails, or finds
    something else, the eager form is used from then on, and the user is told once.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._eager = function
        self._compiled: Callable[..., Tensor] | None = None
        self._proven: set[tuple[torch.device, torch.dtype]] = set()
        self._failed = False

    def __call__(self, x: Tensor, *others: Any) -> Tensor:
        """The function's value."""
        if self._failed or not x.numel():
            return self._eager(x, *others)
        try:
            found = self._compile()(x, *others)
        except Exception as error:
            if _is_not_the_compilers(error):
                raise
            return self._give_up(f"{type(error).__name__}: {_first_line(error)}", x, *others)
        if (x.device, x.dtype) not in self._proven:
            if not close(self._eager(x, *others), found):
                return self._give_up("what it computes is something else", x, *others)
            self._proven.add((x.device, x.dtype))
        return found

    def _compile(self) -> Callable[..., Tensor]:
        import torch

        if self._compiled is None:
            self._compiled = torch.compile(self._eager, dynamic=True)
        return self._compiled

    def _give_up(self, reason: str, *given: Any) -> Tensor:
        self._failed = True
        tell(f"{self._eager.__name__} is computed without torch.compile, more slowly: {reason}")
        return self._eager(*given)


def _is_not_the_compilers(error: Exception) -> bool:
    """Whether the eager form would fail as well."""
    import torch

    lost = isinstance(error, RuntimeError) and has_vanished(error)
    return lost or isinstance(error, torch.OutOfMemoryError)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")[:200]
