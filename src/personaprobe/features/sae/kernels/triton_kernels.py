"""Sparse products on GPUs, one Triton kernel each.

A library would first build a sparse matrix and a plan for it. These kernels read the CSR arrays directly, and write
nothing but the result. They read float32 and accumulate in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

ENTRIES = tl.constexpr(16)
"""Entries of a row that a program loads at a time: enough independent loads to hide the latency of memory."""

MAX_BLOCK = 256
"""Columns that a program holds in registers at most."""


def weighted_sums(dense: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Weighted sum of rows of ``dense`` for each row of a CSR matrix: the product of the matrix with ``dense``.

    Args:
        dense: ``(column, d)``.
        starts, columns: offsets and columns of the CSR matrix.
        values: of its entries.
    """
    n_rows, width = len(starts) - 1, dense.shape[1]
    result = dense.new_empty(n_rows, width)
    block = _block(width)
    grid = (n_rows, triton.cdiv(width, block))
    _weighted_sums[grid](starts, columns, values, dense.contiguous(), result, width, block)
    return result


def sampled_dots(left: Tensor, right: Tensor, starts: Tensor, columns: Tensor) -> Tensor:
    """``left[row] · right[column]`` of every entry of a CSR matrix.

    Args:
        left: ``(row, d)``.
        right: ``(column, d)``.
        starts, columns: offsets and columns of the CSR matrix.
    """
    result = left.new_empty(len(columns))
    width = left.shape[1]
    arrays = (starts, columns, left.contiguous(), right.contiguous())
    _sampled_dots[(len(starts) - 1,)](*arrays, result, width, _block(width))
    return result


def _block(width: int) -> int:
    """The power of two that covers the width, at most :data:`MAX_BLOCK`."""
    return min(MAX_BLOCK, 1 << (width - 1).bit_length())


@triton.jit  # type: ignore[untyped-decorator]
def _weighted_sums(starts, columns, values, dense, result, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    # one program per row and block of columns: no two programs write the same place, so no atomics are needed
    row = tl.program_id(0).to(tl.int64)  # row * width may exceed 32 bits
    offsets = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_width = offsets < width
    end = tl.load(starts + row + 1)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for first in range(tl.load(starts + row), end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        in_row = entries < end
        column = tl.load(columns + entries, mask=in_row, other=0)
        value = tl.load(values + entries, mask=in_row, other=0.0)
        pointers = dense + column[:, None] * width + offsets[None, :]
        rows = tl.load(pointers, mask=in_row[:, None] & in_width[None, :], other=0.0)
        total += tl.sum(value[:, None] * rows, axis=0)
    tl.store(result + row * width + offsets, total, mask=in_width)


@triton.jit  # type: ignore[untyped-decorator]
def _sampled_dots(starts, columns, left, right, result, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    # one program per row: the left row is loaded once per group of entries, and stays in the cache between groups
    row = tl.program_id(0).to(tl.int64)
    end = tl.load(starts + row + 1)
    for first in range(tl.load(starts + row), end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        in_row = entries < end
        column = tl.load(columns + entries, mask=in_row, other=0)
        total = tl.zeros((ENTRIES,), dtype=tl.float32)
        for begin in range(0, width, BLOCK):
            offsets = begin + tl.arange(0, BLOCK)
            in_width = offsets < width
            left_row = tl.load(left + row * width + offsets, mask=in_width, other=0.0)
            pointers = right + column[:, None] * width + offsets[None, :]
            right_rows = tl.load(pointers, mask=in_row[:, None] & in_width[None, :], other=0.0)
            total += tl.sum(right_rows * left_row[None, :], axis=1)
        tl.store(result + entries, total, mask=in_row)
