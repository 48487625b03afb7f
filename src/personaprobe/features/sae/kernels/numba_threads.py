"""Numba kernels on the OpenMP threads that torch already uses.

Threads of Numba's own would have to share the cores with torch's, which spin between products while they wait for work. A
kernel here is a C function of one argument, an array of 64-bit integers: numbers, and addresses of tensors. Every thread
calls it, and works on its share of the rows.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import add_symbol
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from personaprobe.compute import openmp

KERNEL_SIGNATURE = types.void(types.CPointer(types.int64))
"""Type of a compiled kernel; its argument holds the number of rows first."""

add_symbol("omp_get_thread_num", openmp.function_address("omp_get_thread_num"))
add_symbol("omp_get_num_threads", openmp.function_address("omp_get_num_threads"))
_thread_num = types.ExternalFunction("omp_get_thread_num", types.int32())
_num_threads = types.ExternalFunction("omp_get_num_threads", types.int32())


def run_kernel(kernel: Any, *arguments: int | Tensor) -> None:
    """Call a compiled kernel on every thread.

    Args:
        kernel: compiled by ``numba.cfunc`` with :data:`KERNEL_SIGNATURE`.
        arguments: the number of rows, then whatever the kernel reads; a tensor is passed as its address.
    """
    integers = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
    openmp.run_on_threads(kernel.address, integers)


@intrinsic
def pointer_at(_typing, address):  # type: ignore[no-untyped-def]
    """An integer as a pointer, for ``numba.carray``."""

    def generate(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@njit(cache=True)
def rows_of_thread(n_rows):  # type: ignore[no-untyped-def]
    """First row and end (exclusive) of the calling thread's share."""
    return n_rows * _thread_num() // _num_threads(), n_rows * (_thread_num() + 1) // _num_threads()
