"""Split batches that do not fit into memory, keep finished results, and warn the user; on a GPU as on a CPU."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from personaprobe.errors import DeviceError, FallbackWarning, PersonaProbeError, one_line

Item = TypeVar("Item")
Result = TypeVar("Result")


_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "Cannot allocate memory",
    "out of memory",
    "std::bad_alloc",
    "can't start new thread",
)
"""Parts of messages of libraries that raise no class of their own: torch on CPUs and on MPS, Rust, the dynamic linker, and
Python, where there is no room for a thread's stack."""

_PERHAPS = ("could not create a primitive", "could not create a memory")
"""Parts of messages of oneDNN, which has the same words for operations that it lacks."""

_SHORT = 64 * 2**20
"""Bytes that are always free where memory is not short."""

LESS_MEMORY = (
    "use --dtype bfloat16, a smaller model or dictionary, fewer or shorter texts, a smaller --batch-size in training, "
    "or a device with more memory"
)
"""Advice where the memory of a whole run is too small."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there is too little memory, on a device or on the host.

    torch raises its own class for devices alone: on CPUs a RuntimeError, and other libraries what they like.
    """
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, PersonaProbeError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    text = str(error)
    if any(part in text for part in _PERHAPS):
        return _is_memory_short()
    return isinstance(error, Exception) and any(part in text for part in _MESSAGES)


def _is_memory_short() -> bool:
    import psutil

    try:
        bytearray(_SHORT)
    except MemoryError:
        return True
    return int(psutil.virtual_memory().available) < _SHORT


def refuse_out_of_memory(error: BaseException) -> None:
    """Raise where an error means too little memory; handlers that blame a file or a model for every error call it first.

    Raises:
        DeviceError: with the error's own words.
    """
    if is_out_of_memory(error):
        reason = one_line(str(error).partition("\n")[0], 200) or "none is left"
        raise DeviceError(f"too little memory ({reason}); {LESS_MEMORY}") from error


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
    try:
        return run(items)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
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
