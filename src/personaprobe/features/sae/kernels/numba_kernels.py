"""Searches and dot products on CPUs, compiled by Numba and run on torch's own threads.

Floats are compared by their bits, as integers: for floats above 0 the order is the same, and integers are compared
faster. The machine code is cached on disk, beside this module or in the user's cache folder.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import carray, cfunc, njit
from torch import Tensor

from personaprobe.features.sae.kernels.numba_threads import (
    KERNEL_SIGNATURE,
    pointer_at,
    rows_of_thread,
    run_kernel,
)
from personaprobe.features.sae.kernels.top_k import as_ordered_integers

GROUP_SIZE = 16
"""Entries of a row that are skipped together if the largest of them is too small."""

BF16_BYTES = 2
"""Item size by which a kernel tells bfloat16 from float32."""

GUESS_MARGIN = {torch.float32: 1 << 20, torch.bfloat16: 1 << 4}
"""Amount, in bits as an integer, by which a row's smallest result is lowered to guess a threshold for the next row: an
eighth to a quarter of the value."""


def top_k_by_group(pre_activations: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices of each row's ``k`` largest entries, unordered.

    If fewer than ``k`` entries of a row are above 0, the others are arbitrary entries not above 0.

    Args:
        pre_activations: ``(row, d_sae)`` in float32 or bfloat16, contiguous.
        k: at most ``d_sae``.
    """
    n_rows, width = pre_activations.shape
    values = pre_activations.new_empty(n_rows, k)
    indices = pre_activations.new_empty(n_rows, k, dtype=torch.int64)
    margin, itemsize = GUESS_MARGIN[pre_activations.dtype], pre_activations.itemsize
    run_kernel(_TOP_K, n_rows, width, itemsize, k, margin, pre_activations, values, indices)
    return values, indices


def values_above(pre_activations: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Values above ``threshold``, the CSR offsets of the rows, and the columns.

    Args:
        pre_activations: ``(row, d_sae)`` in float32 or bfloat16, contiguous.
        threshold: not negative.
    """
    n_rows, width = pre_activations.shape
    itemsize = pre_activations.itemsize
    bits = int(as_ordered_integers(torch.tensor(threshold, dtype=pre_activations.dtype)))
    starts = torch.zeros(n_rows + 1, dtype=torch.int64)
    # two passes: the offsets of the rows must be known before threads can write their entries side by side
    run_kernel(_COUNT, n_rows, width, itemsize, bits, pre_activations, starts[1:])
    starts.cumsum_(0)
    columns, values = starts.new_empty(int(starts[-1])), pre_activations.new_empty(int(starts[-1]))
    run_kernel(_COLLECT, n_rows, width, itemsize, bits, pre_activations, starts, columns, values)
    return values, starts, columns


def sampled_dots(left: Tensor, right: Tensor, starts: Tensor, columns: Tensor) -> Tensor:
    """``left[row] · right[column]`` of every entry of a CSR matrix.

    Args:
        left: ``(row, d)`` in float32.
        right: ``(column, d)`` in float32.
        starts, columns: offsets and columns of the CSR matrix.
    """
    result = left.new_empty(len(columns))
    arrays = [tensor.contiguous() for tensor in (left, right, starts, columns)]
    run_kernel(_SAMPLED_DOTS, *left.shape, len(right), *arrays, result)
    return result


@njit(cache=True)
def _top_k(pre, k, margin, values, indices, begin, end):  # type: ignore[no-untyped-def]
    """Top k of rows ``begin`` to ``end``.

    Neighbouring rows have similar top k: most of the last row's smallest result is a threshold that lets almost every
    group be skipped. A threshold that was too high is detected, and the row searched again without one.
    """
    width, number = pre.shape[1], pre.dtype.type
    n_groups = (width + GROUP_SIZE - 1) // GROUP_SIZE
    capacity = 8 * k + GROUP_SIZE
    candidates, positions = np.empty(capacity, pre.dtype), np.empty(capacity, np.int64)
    maxima, groups = np.empty(n_groups, pre.dtype), np.empty(n_groups, np.int32)
    guess = number(0)
    for row in range(begin, end):
        _group_maxima(pre[row], maxima)
        n, floor = 0, guess
        while True:
            n = _gather(pre[row], k, maxima, groups, floor, candidates, positions)
            if n >= k or floor <= 0:
                break
            floor = number(0)  # the guess was too high
        if n > k:
            _partition(candidates, positions, n, k)
        elif n < k:
            _fill_up(pre[row], k, n, candidates, positions)
        smallest = candidates[0]
        for i in range(k):
            values[row, i], indices[row, i] = candidates[i], positions[i]
            smallest = min(smallest, candidates[i])
        guess = number(max(0, smallest - margin))


@njit(cache=True)
def _group_maxima(row, maxima):  # type: ignore[no-untyped-def]
    """Largest entry of each group. Members of a group are ``n_groups`` apart, so that the loop runs in vectors."""
    n_groups, width = len(maxima), len(row)
    for j in range(n_groups):
        maxima[j] = row[j]
    for first in range(n_groups, width, n_groups):
        members = row[
            first : min(first + n_groups, width)
        ]  # sliced, or LLVM does not vectorise the comparison
        for j in range(len(members)):
            maxima[j] = max(maxima[j], members[j])


@njit(cache=True)
def _gather(row, k, maxima, groups, floor, candidates, positions):  # type: ignore[no-untyped-def]
    """Collect candidates above ``floor``, at least all of the ``k`` largest of those; returns their number."""
    n_groups, capacity = len(maxima), len(candidates)
    n_left = 0
    for j in range(n_groups):
        # written always and counted conditionally: an addition in place of a branch that is hard to predict
        groups[n_left] = j
        n_left += maxima[j] > floor
    n = 0
    for group in groups[:n_left]:
        for i in range(group, len(row), n_groups):
            candidates[n], positions[n] = row[i], i
            n += row[i] > floor
        if n > capacity - GROUP_SIZE:
            # the buffer is nearly full: keep the k largest, and look only for larger ones from here on
            _partition(candidates, positions, n, k)
            n = k
            floor = candidates[:k].min()
    return n


@njit(cache=True)
def _partition(candidates, positions, n, k):  # type: ignore[no-untyped-def]
    """Bring the ``k`` largest of ``n`` entries to the front (Hoare's selection)."""
    low, high = 0, n - 1
    while low < high:
        pivot = candidates[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while candidates[i] > pivot:
                i += 1
            while candidates[j] < pivot:
                j -= 1
            if i <= j:
                candidates[i], candidates[j] = candidates[j], candidates[i]
                positions[i], positions[j] = positions[j], positions[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break


@njit(cache=True)
def _fill_up(row, k, n, candidates, positions):  # type: ignore[no-untyped-def]
    """Add entries not above 0 until there are ``k``."""
    for i in range(len(row)):
        if n == k:
            break
        if row[i] <= 0:
            candidates[n], positions[n] = row[i], i
            n += 1


@njit(cache=True)
def _count(pre, floor, counts, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        n = np.int32(0)  # as narrow as the entries, so that the loop runs in vectors
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


# reassoc: the sum may be split over the lanes of a vector; contract: multiply and add in one instruction
@njit(cache=True, fastmath={"reassoc", "contract"})
def _sampled_dots(left, right, starts, columns, result, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        for entry in range(starts[row], starts[row + 1]):
            column, total = columns[entry], np.float32(0)
            for i in range(left.shape[1]):
                total += left[row, i] * right[column, i]
            result[entry] = total


# Kernels as C functions. Each unpacks its arguments into arrays, and takes the rows of its thread. The searches exist for
# 16-bit and 32-bit integers, since the same code compiled for the bits of bfloat16 and of float32 serves both.


@njit(cache=True)
def _unpack_top_k(arguments, number):  # type: ignore[no-untyped-def]
    n_rows, width, _, k, margin, pre, values, indices = carray(arguments, 8)
    begin, end = rows_of_thread(n_rows)
    _top_k(
        carray(pointer_at(pre), (n_rows, width), number),
        k,
        margin,
        carray(pointer_at(values), (n_rows, k), number),
        carray(pointer_at(indices), (n_rows, k), np.int64),
        begin,
        end,
    )


@njit(cache=True)
def _unpack_count(arguments, number):  # type: ignore[no-untyped-def]
    n_rows, width, _, floor, pre, counts = carray(arguments, 6)
    begin, end = rows_of_thread(n_rows)
    counts_array = carray(pointer_at(counts), n_rows, np.int64)
    _count(carray(pointer_at(pre), (n_rows, width), number), number(floor), counts_array, begin, end)


@njit(cache=True)
def _unpack_collect(arguments, number):  # type: ignore[no-untyped-def]
    n_rows, width, _, floor, pre, starts, columns, values = carray(arguments, 8)
    begin, end = rows_of_thread(n_rows)
    offsets = carray(pointer_at(starts), n_rows + 1, np.int64)
    n_entries = offsets[n_rows]
    _collect(
        carray(pointer_at(pre), (n_rows, width), number),
        number(floor),
        offsets,
        carray(pointer_at(columns), n_entries, np.int64),
        carray(pointer_at(values), n_entries, number),
        begin,
        end,
    )


@cfunc(KERNEL_SIGNATURE, cache=True)
def _TOP_K(arguments):  # type: ignore[no-untyped-def]
    if arguments[2] == BF16_BYTES:
        _unpack_top_k(arguments, np.int16)
    else:
        _unpack_top_k(arguments, np.int32)


@cfunc(KERNEL_SIGNATURE, cache=True)
def _COUNT(arguments):  # type: ignore[no-untyped-def]
    if arguments[2] == BF16_BYTES:
        _unpack_count(arguments, np.int16)
    else:
        _unpack_count(arguments, np.int32)


@cfunc(KERNEL_SIGNATURE, cache=True)
def _COLLECT(arguments):  # type: ignore[no-untyped-def]
    if arguments[2] == BF16_BYTES:
        _unpack_collect(arguments, np.int16)
    else:
        _unpack_collect(arguments, np.int32)


@cfunc(KERNEL_SIGNATURE, cache=True)
def _SAMPLED_DOTS(arguments):  # type: ignore[no-untyped-def]
    n_rows, width, n_columns, left, right, starts, columns, result = carray(arguments, 8)
    begin, end = rows_of_thread(n_rows)
    offsets = carray(pointer_at(starts), n_rows + 1, np.int64)
    n_entries = offsets[n_rows]
    _sampled_dots(
        carray(pointer_at(left), (n_rows, width), np.float32),
        carray(pointer_at(right), (n_columns, width), np.float32),
        offsets,
        carray(pointer_at(columns), n_entries, np.int64),
        carray(pointer_at(result), n_entries, np.float32),
        begin,
        end,
    )
