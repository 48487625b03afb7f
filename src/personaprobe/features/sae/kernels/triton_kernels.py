"""Sparse products on GPUs: one kernel each, in place of a sparse matrix for a library and what it makes of it.

Both read float32 and sum in float32; nothing is written but what is asked for.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

ENTRIES = tl.constexpr(16)
"""Entries of a row that a program reads at a time."""

WIDTH = 256
"""The most columns that a program holds at a time."""


def weighted_sums(dense: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Each row's weighted sum of rows of ``dense``: the product of a sparse matrix with it.

    Args:
        dense: ``(d_sae or row, d)``.
        starts, columns: of the sparse matrix's rows (CSR).
        values: of its entries.
    """
    n_rows, width = len(starts) - 1, dense.shape[1]
    found = dense.new_empty(n_rows, width)
    block = _block(width)
    grid = (n_rows, triton.cdiv(width, block))
    _sums[grid](starts, columns, values, dense.contiguous(), found, width, block)
    return found


def sampled_dots(left: Tensor, right: Tensor, starts: Tensor, columns: Tensor) -> Tensor:
    """``left[row] · right[column]`` of every entry.

    Args:
        left: ``(row, d)``.
        right: ``(d_sae, d)``.
        starts, columns: of the sparse matrix's rows (CSR).
    """
    found = left.new_empty(len(columns))
    width = left.shape[1]
    given = (starts, columns, left.contiguous(), right.contiguous())
    _dots[(len(starts) - 1,)](*given, found, width, _block(width))
    return found


def _block(width: int) -> int:
    return min(WIDTH, 1 << (width - 1).bit_length())


@triton.jit  # type: ignore[untyped-decorator]
def _sums(starts, columns, values, dense, found, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    end = tl.load(starts + row + 1)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for first in range(tl.load(starts + row), end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        there = entries < end
        column = tl.load(columns + entries, mask=there, other=0)
        value = tl.load(values + entries, mask=there, other=0.0)
        places = dense + column[:, None] * width + at[None, :]
        read = tl.load(places, mask=there[:, None] & inside[None, :], other=0.0)
        total += tl.sum(value[:, None] * read, axis=0)
    tl.store(found + row * width + at, total, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _dots(starts, columns, left, right, found, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    end = tl.load(starts + row + 1)
    for first in range(tl.load(starts + row), end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        there = entries < end
        column = tl.load(columns + entries, mask=there, other=0)
        total = tl.zeros((ENTRIES,), dtype=tl.float32)
        for begin in range(0, width, BLOCK):
            at = begin + tl.arange(0, BLOCK)
            inside = at < width
            own = tl.load(left + row * width + at, mask=inside, other=0.0)
            places = right + column[:, None] * width + at[None, :]
            read = tl.load(places, mask=there[:, None] & inside[None, :], other=0.0)
            total += tl.sum(read * own[None, :], axis=1)
        tl.store(found + entries, total, mask=there)
