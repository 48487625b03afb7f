"""Run our own C functions on the OpenMP threads that PyTorch already uses, and choose how long these spin while they wait.

Threads of our own would have to share the cores with them, and gained nothing (``tests/benchmarks/README.md``).
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctypes import CDLL

WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user chooses how threads wait."""


SPINS_ALONE = 30_000
"""Turns that a waiting thread spins before it sleeps, where the machine has cores to spare: about a millisecond."""

SPINS_BESIDE_WORK = 3_000
"""The same where other work wants the cores: about a tenth of a millisecond."""


def limit_spinning() -> int | None:
    """Limit how long OpenMP threads spin while they wait for the next operation, unless the user chose otherwise.

    A thread that spins holds a core which the thread it waits for may need: with the 300,000 turns of GNU OpenMP, a model
    of two threads took several times its share of a machine with other work. A thread that sleeps at once wakes up late:
    on a quiet machine, generation took 1.6 times as long. Both are measured in ``tests/benchmarks/README.md``. The library
    reads the setting when it is loaded, so that this must be called before torch is imported.

    Returns:
        The number of turns that was set; None where the user made a choice, or torch was imported before.
    """
    if any(name in os.environ for name in WAIT_SETTINGS) or "torch" in sys.modules:
        return None
    spins = SPINS_ALONE if _has_cores_to_spare() else SPINS_BESIDE_WORK
    os.environ["GOMP_SPINCOUNT"] = str(spins)
    return spins


def _has_cores_to_spare() -> bool:
    """Whether all cores of this process are free now."""
    cores = os.cpu_count() or 1
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return _threads_of_others() + n_threads <= cores


def _threads_of_others() -> float:
    """About how many threads of other programs want a core: on Linux those of this moment, elsewhere the last minute's."""
    try:
        # what runs for a moment only is in one of three looks, and missing in another
        return min(running_threads() for _ in range(3)) - 1
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def running_threads() -> int:
    """Threads of this machine that run or could run, this one included."""
    time.sleep(0.002)
    with open("/proc/loadavg", encoding="ascii") as numbers:
        return int(numbers.read().split()[3].split("/")[0])


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
