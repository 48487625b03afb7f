"""Choose device and dtype by what the machine can do, and measure its memory."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from personaprobe.errors import DeviceError, suggest

if TYPE_CHECKING:
    import torch

MODEL_DTYPES = ("float32", "bfloat16", "float16")
"""Dtypes that models can be loaded in."""

DEVICE_TYPES = ("cpu", "cuda", "mps")
"""Types of device that models can run on."""


def choose_device(name: str | None = None) -> torch.device:
    """Return the named device; without a name CUDA where there is a GPU, else the CPU.

    Raises:
        DeviceError: this machine does not have the device.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in DEVICE_TYPES:
        raise DeviceError(f"unknown device {name!r}: {suggest(kind, DEVICE_TYPES)}")
    n_mps = int(torch.backends.mps.is_available())
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": n_mps}[kind]
    if not count:
        raise DeviceError(f"device {name!r} does not exist: this machine has no {kind}; use --device cpu")
    if index and not (index.isdecimal() and int(index) < count):
        raise DeviceError(
            f"device {name!r} does not exist: this machine has {count} of type {kind}; "
            f"use an index from 0 to {count - 1}, such as {kind}:0"
        )
    return torch.device(name)


def choose_dtype(device: torch.device, name: str | None = None) -> torch.dtype:
    """Return the named dtype; without a name bfloat16 where the device multiplies it faster, else float32.

    Raises:
        DeviceError: models cannot be loaded in the dtype.
    """
    import torch

    if name is not None:
        if name not in MODEL_DTYPES:
            raise DeviceError(f"unknown dtype {name!r}: {suggest(name, MODEL_DTYPES)}")
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and is_faster_in_bf16() else torch.float32


@cache
def is_faster_in_bf16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32.

    True with AMX tiles, and with AVX512-BF16 except on Intel processors: with their tiles switched off, as in virtual
    machines, they multiply bfloat16 at half the speed of float32 (``tests/benchmarks/README.md``). Other processors
    emulate it.
    """
    import torch

    if torch.cpu._is_amx_tile_supported():
        return True
    is_intel = str(torch.cpu.get_capabilities().get("cpu_name", "")).startswith("Intel")
    return torch.cpu._is_avx512_bf16_supported() and not is_intel


def is_device_loss(error: RuntimeError) -> bool:
    """Whether an error means that a device stopped working: it was unplugged, reset or taken away."""
    import torch

    return isinstance(error, torch.AcceleratorError) or str(error).startswith("CUDA error")


def peak_memory(device: torch.device) -> int:
    """Return the largest memory use so far in bytes: of tensors on a CUDA device, else of this process."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory(device: torch.device) -> int | None:
    """Return the free memory of a device in bytes; None where it cannot be known."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    import psutil

    return int(psutil.virtual_memory().available)


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next allocation, in place of returning it to the operating system.

    The logits of 192 rows, 37 MB, exceed the largest block that glibc keeps by default: each decoding step would
    map and zero them anew, page by page (``tests/benchmarks/README.md``; no ratio was kept). The setting holds for
    the whole process, so that only our command line and benchmarks call this. It does nothing where the C library
    is not glibc.
    """
    import ctypes

    trim_threshold, mmap_max, largest = -1, -4, 2**31 - 1  # parameter numbers of malloc.h
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, largest)


def return_freed_memory() -> None:
    """Return the memory that :func:`keep_freed_memory` keeps to the operating system, once a piece of work has ended.

    Caches of keys and values of one batch of answers do not fit those of the next, so that a study kept all of them. It does
    nothing where the C library is not glibc.
    """
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
