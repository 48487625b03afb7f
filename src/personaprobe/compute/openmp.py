"""Run our own C functions on the OpenMP threads that PyTorch already uses, and let these threads sleep while they wait.

Threads of our own would have to share the cores with them, and gained nothing (``tests/benchmarks/README.md``).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctypes import CDLL

WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user chooses how threads wait."""


def let_threads_sleep() -> bool:
    """Make OpenMP threads sleep, instead of spin, while they wait for the next operation, unless the user chose otherwise.

    A thread that spins holds a core which the thread it waits for may need: beside other work, a model of two threads
    took several times as long as its share of the cores (``tests/benchmarks/README.md``). The library reads the setting
    when it is loaded, so that this must be called before torch is imported.

    Returns:
        Whether the setting was made: not where the user made one, nor after torch was imported.
    """
    if any(name in os.environ for name in WAIT_SETTINGS) or "torch" in sys.modules:
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True


def is_available() -> bool:
    """Whether torch computes with GNU OpenMP, whose thread team any library may use."""
    return _library() is not None


def function_address(name: str) -> int:
    """Return the address of one of the OpenMP library's functions.

    Raises:
        OSError: torch does not compute with GNU OpenMP.
    """
    address = ctypes.cast(getattr(_loaded_library(), name), ctypes.c_void_p).value
    assert address is not None, "a function has an address"
    return address


def run_on_threads(address: int, arguments: Sequence[int]) -> None:
    """Run a C function once on every thread (an OpenMP parallel region), and wait for all of them.

    Args:
        address: of a C function of one parameter, a pointer to ``arguments`` as 64-bit integers. The function may
            call ``omp_get_thread_num`` and ``omp_get_num_threads``.
        arguments: numbers and addresses.

    Raises:
        OSError: torch does not compute with GNU OpenMP.
    """
    import torch

    array = (ctypes.c_int64 * len(arguments))(*arguments)
    _loaded_library().GOMP_parallel(
        ctypes.c_void_p(address), array, ctypes.c_uint(torch.get_num_threads()), 0
    )


def _loaded_library() -> CDLL:
    library = _library()
    if library is None:
        raise OSError(
            "torch does not compute with GNU OpenMP on this machine; call is_available() before kernels that need it"
        )
    return library


@cache
def _library() -> CDLL | None:
    import torch  # noqa: F401  # loads the library

    # a second copy of the library would have a thread team of its own: only the one already loaded will do
    already_loaded = getattr(os, "RTLD_NOLOAD", None)
    if already_loaded is None:  # Windows
        return None
    try:
        return ctypes.CDLL("libgomp.so.1", mode=already_loaded)
    except OSError:
        return None
