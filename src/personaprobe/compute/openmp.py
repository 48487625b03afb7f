"""Work of our own for the threads that torch computes with on CPUs.

Between products they wait for more by spinning, so that threads beside them would have to share the cores with them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctypes import CDLL


def is_there() -> bool:
    """Whether torch computes with GNU OpenMP, which takes work from anybody."""
    return _library() is not None


def address(name: str) -> int:
    """Where one of the library's functions is.

    Raises:
        OSError: there is no such library.
    """
    found = ctypes.cast(getattr(_there(), name), ctypes.c_void_p).value
    assert found is not None, "a function has an address"
    return found


def do(work: int, given: Sequence[int]) -> None:
    """Have every thread do a piece of work.

    Args:
        work: address of a C function of one argument, a pointer to ``given`` as 64-bit integers. It may ask for the
            number of its thread (``omp_get_thread_num``), and of all (``omp_get_num_threads``).
        given: numbers and addresses.

    Raises:
        OSError: there is no such library.
    """
    import torch

    told = (ctypes.c_int64 * len(given))(*given)
    _there().GOMP_parallel(ctypes.c_void_p(work), told, ctypes.c_uint(torch.get_num_threads()), 0)


def _there() -> CDLL:
    library = _library()
    if library is None:
        raise OSError("torch does not compute with GNU OpenMP here")
    return library


@cache
def _library() -> CDLL | None:
    import torch  # noqa: F401  # which brings the library

    already_loaded = getattr(os, "RTLD_NOLOAD", None)
    if already_loaded is None:  # Windows
        return None
    try:
        return ctypes.CDLL("libgomp.so.1", mode=already_loaded)
    except OSError:
        return None
