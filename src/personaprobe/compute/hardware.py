"""Device and dtype, chosen by what the machine can do."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from personaprobe.errors import DeviceError, suggest

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def choose_device(asked: str | None = None) -> torch.device:
    """The device asked for, or CUDA where there is one, else the CPU.

    Raises:
        DeviceError: the device asked for is not on this machine.
    """
    import torch

    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = asked.partition(":")
    if kind not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"unknown device {asked!r}: {suggest(kind, ('cpu', 'cuda', 'mps'))}")
    mps = int(torch.backends.mps.is_available())
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": mps}[kind]
    if not present:
        raise DeviceError(f"device {asked!r} was asked for and this machine has none; use --device cpu")
    if index and not (index.isdecimal() and int(index) < present):
        raise DeviceError(f"device {asked!r} was asked for and this machine counts {present}, from {kind}:0")
    return torch.device(asked)


def choose_dtype(device: torch.device, asked: str | None = None) -> torch.dtype:
    """The dtype asked for, or bfloat16 on CUDA and on processors that multiply it faster, else float32."""
    import torch

    if asked is not None:
        if asked not in DTYPES:
            raise DeviceError(f"unknown dtype {asked!r}: {suggest(asked, DTYPES)}")
        dtype: torch.dtype = getattr(torch, asked)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and is_faster_in_bf16() else torch.float32


def is_faster_in_bf16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32: in tiles (AMX), or by AVX512-BF16 outside Intel's.

    Elsewhere it is emulated. Intel's processors with AVX512-BF16 whose tiles are switched off, as virtual machines do,
    multiply it at half the speed of float32.
    """
    import torch

    if torch.cpu._is_amx_tile_supported():
        return True
    by_intel = str(torch.cpu.get_capabilities().get("cpu_name", "")).startswith("Intel")
    return torch.cpu._is_avx512_bf16_supported() and not by_intel


def has_vanished(error: RuntimeError) -> bool:
    """Whether an error says that a device stopped working, such as one that was unplugged, reset or taken away."""
    import torch

    return isinstance(error, torch.AcceleratorError) or str(error).startswith("CUDA error")


def peak_memory(device: torch.device) -> int:
    """The most bytes that were held so far: by tensors on a CUDA device, else by this process."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def keep_freed_memory() -> None:
    """Let the C library keep what tensors give back, for the next ones, in place of returning it to the system.

    Large tensors that come and go are otherwise mapped and zeroed anew, page by page, every time. Only programs of our own
    ask for it, not the library: it holds for the whole process. Nothing happens where the C library is not glibc.
    """
    import ctypes

    trim_threshold, mmap_max, most = -1, -4, 2**31 - 1  # as malloc.h numbers them
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, most)
