"""Split batches that do not fit into memory, keep finished results, and warn the user."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from personaprobe.errors import DeviceError, FallbackWarning

Item = TypeVar("Item")
Result = TypeVar("Result")


def split_on_oom(
    run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], items_name: str
) -> list[Result]:
    """Run a batch, or its two halves where it does not fit into memory, recursively.

    Args:
        run: computes one result for each item.
        items: the batch.
        items_name: plural noun for the items, for messages.

    Returns:
        Results in the order of the items.

    Raises:
        DeviceError: a single item does not fit.
    """
    import torch

    try:
        return run(items)
    except torch.OutOfMemoryError as error:
        if len(items) < 2:
            raise oom_error(items_name) from error
    # outside the handler: the exception's traceback would keep the failed pass's tensors alive
    warn_fallback(f"{len(items)} {items_name} did not fit into memory together and are read in halves")
    middle = len(items) // 2
    return split_on_oom(run, items[:middle], items_name) + split_on_oom(run, items[middle:], items_name)


def oom_error(items_name: str) -> DeviceError:
    """Return the error for a single item that does not fit into memory."""
    return DeviceError(
        f"one of the {items_name} alone does not fit into memory; "
        "shorten it, use --dtype bfloat16, or another device"
    )


def warn_fallback(message: str) -> None:
    """Warn that work continues in another, slower way than requested."""
    warnings.warn(message, FallbackWarning, stacklevel=3)
