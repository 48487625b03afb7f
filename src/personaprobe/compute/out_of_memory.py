"""What does not fit into memory at once is done in smaller parts: nothing finished is lost, and the user is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from personaprobe.errors import DeviceError, Note

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_halves(
    run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], what: str
) -> list[Result]:
    """Run a batch, or its halves where it does not fit, and join what comes of them in the order of the items.

    Args:
        run: works on several items.
        items: as many as one would like to run together.
        what: the items are, for the note.

    Raises:
        DeviceError: a single item does not fit.
    """
    import torch

    try:
        return run(items)
    except torch.OutOfMemoryError as error:
        if len(items) < 2:
            raise refused(what) from error
    # outside the handler, so that the failed pass's tensors are free by now
    tell(f"{len(items)} {what} did not fit into memory together and are read in halves")
    middle = len(items) // 2
    return in_halves(run, items[:middle], what) + in_halves(run, items[middle:], what)


def refused(what: str) -> DeviceError:
    """What is said where a single one is too much."""
    return DeviceError(
        f"one of the {what} alone does not fit into memory; shorten it, use --dtype bfloat16, or another device"
    )


def tell(note: str) -> None:
    """Say what is done in another way than it was begun; work goes on."""
    warnings.warn(note, Note, stacklevel=3)
