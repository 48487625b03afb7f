"""Work on rows on CPUs, compiled by Numba and done by torch's own threads.

Numbers are searched by their bits, as integers: above 0 the order is the same. The machine code is kept on disk, beside
this module or in the user's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite.binding import add_symbol
from numba import carray, cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from personaprobe.compute import openmp
from personaprobe.features.sae.kernels.top_k import as_integers

MEMBERS = 16
"""Numbers of a row of which only the largest is looked at, unless it is large enough."""

NARROW = 2
"""Bytes of a number in bfloat16."""

LOWER = {torch.float32: 1 << 20, torch.bfloat16: 1 << 4}
"""What a row's smallest is lowered by to guess the next row's, in its bits: an eighth to a quarter."""


def largest_by_group(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and places of each row's ``k`` largest, in no order; where fewer are above 0, the rest are any others.

    Args:
        pre: ``(row, d_sae)`` in float32 or bfloat16, contiguous.
        k: at most ``d_sae``.
    """
    n_rows, width = pre.shape
    values, places = pre.new_empty(n_rows, k), pre.new_empty(n_rows, k, dtype=torch.int64)
    _do(_LARGEST, n_rows, width, pre.itemsize, k, LOWER[pre.dtype], pre, values, places)
    return values, places


def those_above(pre: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers above ``floor``, where each row's begin, and their columns.

    Args:
        pre: ``(row, d_sae)`` in float32 or bfloat16, contiguous.
        floor: not negative.
    """
    n_rows, width = pre.shape
    least = int(as_integers(torch.tensor(floor, dtype=pre.dtype)))
    starts = torch.zeros(n_rows + 1, dtype=torch.int64)
    _do(_COUNT, n_rows, width, pre.itemsize, least, pre, starts[1:])
    starts.cumsum_(0)
    columns, values = starts.new_empty(int(starts[-1])), pre.new_empty(int(starts[-1]))
    _do(_COLLECT, n_rows, width, pre.itemsize, least, pre, starts, columns, values)
    return values, starts, columns


def sampled_dots(left: Tensor, right: Tensor, starts: Tensor, columns: Tensor) -> Tensor:
    """``left[row] · right[column]`` of every entry.

    Args:
        left: ``(row, d)`` in float32.
        right: ``(d_sae, d)``, likewise.
        starts, columns: of a sparse matrix's rows (CSR).
    """
    found = left.new_empty(len(columns))
    read = [each.contiguous() for each in (left, right, starts, columns)]
    _do(_DOTS, *left.shape, len(right), *read, found)
    return found


def _do(work: Any, *given: int | Tensor) -> None:
    """Have threads do a piece of work, each on some of the rows, whose number comes first."""
    openmp.run_on_threads(
        work.address, [each.data_ptr() if isinstance(each, Tensor) else each for each in given]
    )


add_symbol("omp_get_thread_num", openmp.function_address("omp_get_thread_num"))
add_symbol("omp_get_num_threads", openmp.function_address("omp_get_num_threads"))
_mine = types.ExternalFunction("omp_get_thread_num", types.int32())
_all = types.ExternalFunction("omp_get_num_threads", types.int32())


@intrinsic
def _at(_typing, address):  # type: ignore[no-untyped-def]
    """What lies at an address."""

    def generate(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@njit(cache=True)
def _share(n_rows):  # type: ignore[no-untyped-def]
    """The rows of the thread that asks: first, and after the last."""
    return n_rows * _mine() // _all(), n_rows * (_mine() + 1) // _all()


@njit(cache=True)
def _largest(pre, k, lower, values, places, begin, end):  # type: ignore[no-untyped-def]
    width, number = pre.shape[1], pre.dtype.type
    n_groups = (width + MEMBERS - 1) // MEMBERS
    room = 8 * k + MEMBERS
    found, where = np.empty(room, pre.dtype), np.empty(room, np.int64)
    best, groups = np.empty(n_groups, pre.dtype), np.empty(n_groups, np.int32)
    guess = number(0)
    for row in range(begin, end):
        _maxima(pre[row], best)
        n, floor = 0, guess
        while True:
            n = _gather(pre[row], k, best, groups, floor, found, where)
            if n >= k or floor <= 0:
                break
            floor = number(0)  # the guess was too high
        if n > k:
            _to_the_front(found, where, n, k)
        elif n < k:
            _fill_up(pre[row], k, n, found, where)
        smallest = found[0]
        for i in range(k):
            values[row, i], places[row, i] = found[i], where[i]
            smallest = min(smallest, found[i])
        guess = number(max(0, smallest - lower))


@njit(cache=True)
def _maxima(row, best):  # type: ignore[no-untyped-def]
    """The largest of each group, whose members stand as far apart as there are groups."""
    n_groups, width = len(best), len(row)
    for j in range(n_groups):
        best[j] = row[j]
    for first in range(n_groups, width, n_groups):
        members = row[first : min(first + n_groups, width)]  # cut out, or they are not compared in vectors
        for j in range(len(members)):
            best[j] = max(best[j], members[j])


@njit(cache=True)
def _gather(row, k, best, groups, floor, found, where):  # type: ignore[no-untyped-def]
    """At least all of the ``k`` largest that are above ``floor``; says how many."""
    n_groups, room = len(best), len(found)
    n_left = 0
    for j in range(n_groups):
        groups[n_left] = j
        n_left += best[j] > floor
    n = 0
    for group in groups[:n_left]:
        for i in range(group, len(row), n_groups):
            found[n], where[n] = row[i], i
            n += row[i] > floor
        if n > room - MEMBERS:
            _to_the_front(found, where, n, k)
            n = k
            floor = found[:k].min()
    return n


@njit(cache=True)
def _to_the_front(found, where, n, k):  # type: ignore[no-untyped-def]
    """Bring the ``k`` largest of ``n`` before the others (Hoare's selection)."""
    low, high = 0, n - 1
    while low < high:
        pivot = found[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while found[i] > pivot:
                i += 1
            while found[j] < pivot:
                j -= 1
            if i <= j:
                found[i], found[j] = found[j], found[i]
                where[i], where[j] = where[j], where[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break


@njit(cache=True)
def _fill_up(row, k, n, found, where):  # type: ignore[no-untyped-def]
    """Others, where fewer than ``k`` are above 0."""
    for i in range(len(row)):
        if n == k:
            break
        if row[i] <= 0:
            found[n], where[n] = row[i], i
            n += 1


@njit(cache=True)
def _count(pre, floor, counts, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        n = np.int32(0)
        for value in pre[row]:
            n += np.int32(value > floor)
        counts[row] = n


@njit(cache=True)
def _collect(pre, floor, starts, columns, values, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        n = starts[row]
        for i in range(pre.shape[1]):
            if pre[row, i] > floor:
                columns[n], values[n] = i, pre[row, i]
                n += 1


@njit(cache=True, fastmath={"reassoc", "contract"})
def _dots(left, right, starts, columns, found, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        for entry in range(starts[row], starts[row + 1]):
            column, total = columns[entry], np.float32(0)
            for i in range(left.shape[1]):
                total += left[row, i] * right[column, i]
            found[entry] = total


_WORK = types.void(types.CPointer(types.int64))


@njit(cache=True)
def _largest_of(given, number):  # type: ignore[no-untyped-def]
    n_rows, width, _, k, lower, pre, values, places = carray(given, 8)
    begin, end = _share(n_rows)
    _largest(
        carray(_at(pre), (n_rows, width), number),
        k,
        lower,
        carray(_at(values), (n_rows, k), number),
        carray(_at(places), (n_rows, k), np.int64),
        begin,
        end,
    )


@njit(cache=True)
def _count_of(given, number):  # type: ignore[no-untyped-def]
    n_rows, width, _, floor, pre, counts = carray(given, 6)
    begin, end = _share(n_rows)
    own = carray(_at(counts), n_rows, np.int64)
    _count(carray(_at(pre), (n_rows, width), number), number(floor), own, begin, end)


@njit(cache=True)
def _collect_of(given, number):  # type: ignore[no-untyped-def]
    n_rows, width, _, floor, pre, starts, columns, values = carray(given, 8)
    begin, end = _share(n_rows)
    offsets = carray(_at(starts), n_rows + 1, np.int64)
    n_found = offsets[n_rows]
    _collect(
        carray(_at(pre), (n_rows, width), number),
        number(floor),
        offsets,
        carray(_at(columns), n_found, np.int64),
        carray(_at(values), n_found, number),
        begin,
        end,
    )


@cfunc(_WORK, cache=True)
def _LARGEST(given):  # type: ignore[no-untyped-def]
    if given[2] == NARROW:
        _largest_of(given, np.int16)
    else:
        _largest_of(given, np.int32)


@cfunc(_WORK, cache=True)
def _COUNT(given):  # type: ignore[no-untyped-def]
    if given[2] == NARROW:
        _count_of(given, np.int16)
    else:
        _count_of(given, np.int32)


@cfunc(_WORK, cache=True)
def _COLLECT(given):  # type: ignore[no-untyped-def]
    if given[2] == NARROW:
        _collect_of(given, np.int16)
    else:
        _collect_of(given, np.int32)


@cfunc(_WORK, cache=True)
def _DOTS(given):  # type: ignore[no-untyped-def]
    n_rows, width, n_right, left, right, starts, columns, found = carray(given, 8)
    begin, end = _share(n_rows)
    offsets = carray(_at(starts), n_rows + 1, np.int64)
    n_entries = offsets[n_rows]
    _dots(
        carray(_at(left), (n_rows, width), np.float32),
        carray(_at(right), (n_right, width), np.float32),
        offsets,
        carray(_at(columns), n_entries, np.int64),
        carray(_at(found), n_entries, np.float32),
        begin,
        end,
    )
