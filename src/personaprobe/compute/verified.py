"""Faster kernels that are compared with the plain function at first use, and dropped where they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from personaprobe.compute.equivalence import equal_up_to_rounding
from personaprobe.compute.hardware import is_device_loss
from personaprobe.compute.out_of_memory import is_out_of_memory, warn_fallback

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class VerifiedKernel:
    """A function of tensors with a faster form, such as a compiled one.

    The first call on each device and dtype computes both forms. If the faster form cannot be built, fails, or gives
    another result, all later calls use the plain function, and a warning says so once.

    Attributes:
        failed: whether the plain function is used for this reason.
    """

    def __init__(
        self,
        plain: Callable[..., Any],
        build: Callable[[], Callable[..., Any]],
        provider: str,
        is_equal: Callable[[Any, Any], bool] = equal_up_to_rounding,
    ) -> None:
        """Build nothing yet; the first call does.

        Args:
            plain: the function; the device and dtype of its first argument are those of the computation.
            build: returns the faster form.
            provider: what provides the faster form, such as ``torch.compile``, for the warning.
            is_equal: whether two results are equally good.
        """
        self._plain = plain
        self._build, self._provider, self._is_equal = build, provider, is_equal
        self._faster: Callable[..., Any] | None = None
        self._verified: set[tuple[torch.device, torch.dtype]] = set()
        self.failed = False

    def __call__(self, x: Tensor, *others: Any) -> Any:
        """Return the function's value."""
        if self.failed or not x.numel():
            return self._plain(x, *others)
        try:
            self._faster = self._faster or self._build()
            result = self._faster(x, *others)
        except Exception as error:
            if _would_fail_anyway(error):
                raise
            return self._fall_back(f"{type(error).__name__}: {_first_line(error)}", x, *others)
        if (x.device, x.dtype) not in self._verified:
            if not self._is_equal(self._plain(x, *others), result):
                return self._fall_back("its result differs from the plain function's", x, *others)
            self._verified.add((x.device, x.dtype))
        return result

    def _fall_back(self, reason: str, *arguments: Any) -> Any:
        self.failed = True
        warn_fallback(f"{self._plain.__name__} is computed without {self._provider}, more slowly: {reason}")
        return self._plain(*arguments)


def _would_fail_anyway(error: Exception) -> bool:
    """Whether the plain function would fail as well: no memory left, or the device is gone."""
    lost = isinstance(error, RuntimeError) and is_device_loss(error)
    return lost or is_out_of_memory(error)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")[:200]
