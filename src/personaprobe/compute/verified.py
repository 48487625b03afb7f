"""Faster forms of functions, held against the plain ones where they are first used, and plain wherever they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from personaprobe.compute.equivalence import close
from personaprobe.compute.hardware import has_vanished
from personaprobe.compute.out_of_memory import tell

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Proven:
    """A function of tensors that something makes a faster form of, such as a compiler.

    The first call of every device and dtype is computed both ways. Where the faster form cannot be made or fails, or
    finds something else, the plain one is used from then on, and the user is told once.

    Attributes:
        failed: whether it came to that.
    """

    def __init__(
        self,
        plain: Callable[..., Any],
        make: Callable[[], Callable[..., Any]],
        maker: str,
        agree: Callable[[Any, Any], bool] = close,
    ) -> None:
        """Make nothing yet.

        Args:
            plain: the function; its first argument says where it is computed, and in which dtype.
            make: gives the faster form.
            maker: what makes it, for the note.
            agree: whether two results are as good as each other.
        """
        self._plain = plain
        self._make, self._maker, self._agree = make, maker, agree
        self._faster: Callable[..., Any] | None = None
        self._proven: set[tuple[torch.device, torch.dtype]] = set()
        self.failed = False

    def __call__(self, x: Tensor, *others: Any) -> Any:
        """The function's value."""
        if self.failed or not x.numel():
            return self._plain(x, *others)
        try:
            self._faster = self._faster or self._make()
            found = self._faster(x, *others)
        except Exception as error:
            if _is_not_the_makers(error):
                raise
            return self._give_up(f"{type(error).__name__}: {_first_line(error)}", x, *others)
        if (x.device, x.dtype) not in self._proven:
            if not self._agree(self._plain(x, *others), found):
                return self._give_up("what it computes is something else", x, *others)
            self._proven.add((x.device, x.dtype))
        return found

    def _give_up(self, reason: str, *given: Any) -> Any:
        self.failed = True
        tell(f"{self._plain.__name__} is computed without {self._maker}, more slowly: {reason}")
        return self._plain(*given)


def _is_not_the_makers(error: Exception) -> bool:
    """Whether the plain form would fail as well."""
    import torch

    lost = isinstance(error, RuntimeError) and has_vanished(error)
    return lost or isinstance(error, torch.OutOfMemoryError)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")[:200]
