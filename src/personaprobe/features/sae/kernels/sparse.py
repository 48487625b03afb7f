"""Sparse activations and their exact gradients: inactive latents cost nothing.

The forward pass projects every row on every latent once, without a graph, and selects the active latents. From then on
only active (row, latent) pairs are computed. With k of d_sae latents active, decoding and all gradients take k / d_sae of
the dense work.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.features.sae.kernels.dispatch import compiled_kernel, fits_numba, fits_triton

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

# torch warns at the first CSR matrix; the tests compare every result below with dense gradients
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)


@dataclass(frozen=True, eq=False)
class ActiveLatents:
    """The active latents of each row: the sparsity pattern of a CSR matrix ``S (row, d_sae)``, without values.

    Attributes:
        starts: ``(rows + 1)`` offset of each row's first entry, and the number of entries.
        latents: latent of each entry, row by row.
        d_sae: number of latents.
    """

    starts: Int[Tensor, "offset"]
    latents: Int[Tensor, "entry"]
    d_sae: int

    @classmethod
    def from_rectangle(cls, latents: Int[Tensor, "row k"], d_sae: int) -> ActiveLatents:
        """The pattern of rows that all have the same number of entries."""
        n_rows, k = latents.shape
        return cls(torch.arange(n_rows + 1, device=latents.device) * k, latents.flatten(), d_sae)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @cached_property
    def rows(self) -> Int[Tensor, "entry"]:
        """Row of each entry."""
        counts = self.starts.diff()
        return torch.repeat_interleave(torch.arange(self.n_rows, device=self.starts.device), counts)

    @cached_property
    def counts(self) -> Int[Tensor, "d_sae"]:
        """Number of rows in which each latent is active."""
        return torch.bincount(self.latents, minlength=self.d_sae)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor]:
        """The order of entries sorted by latent, and the offsets of each latent's entries."""
        # Narrow integers are sorted five times faster than int64 (tests/benchmarks/README.md).
        narrow = torch.int16 if self.d_sae <= 2**15 else torch.int32
        order = self.latents.to(narrow).argsort(stable=True)
        return order, row_offsets(self.counts)

    def matmul(
        self, values: Float[Tensor, "entry"], dense: Float[Tensor, "d_sae d"]
    ) -> Float[Tensor, "row d"]:
        """``S @ dense``."""
        return _fastest(weighted_sums, dense)(dense, self.starts, self.latents, values)

    def transposed_matmul(
        self, values: Float[Tensor, "entry"], dense: Float[Tensor, "row d"]
    ) -> Float[Tensor, "d_sae d"]:
        """``Sᵀ @ dense``."""
        order, starts = self._transposed
        return _fastest(weighted_sums, dense)(dense, starts, self.rows[order], values[order])

    def dots(self, left: Float[Tensor, "row d"], right: Float[Tensor, "d_sae d"]) -> Float[Tensor, "entry"]:
        """``left[row] · right[latent]`` of every entry."""
        return _fastest(sampled_dots, left)(left, right, self.starts, self.latents)

    def column_sums(self, values: Float[Tensor, "entry"]) -> Float[Tensor, "d_sae"]:
        """Sum of each latent's values."""
        return torch.zeros(self.d_sae, dtype=values.dtype, device=values.device).index_add_(
            0, self.latents, values
        )

    def filtered(self, mask: Bool[Tensor, "entry"]) -> ActiveLatents:
        """The entries where ``mask`` is true."""
        counts = torch.bincount(self.rows[mask], minlength=self.n_rows)
        return replace(self, starts=row_offsets(counts), latents=self.latents[mask])


def concatenate_rows(parts: Sequence[ActiveLatents]) -> ActiveLatents:
    """The pattern of several batches of rows, one below the other."""
    if len(parts) == 1:
        return parts[0]
    counts = torch.cat([part.starts.diff() for part in parts])
    return ActiveLatents(row_offsets(counts), torch.cat([part.latents for part in parts]), parts[0].d_sae)


def row_offsets(counts: Tensor) -> Tensor:
    """CSR offsets from the number of entries per row: 0, then the cumulative sums."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def weighted_sums(dense: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Weighted sum of rows of ``dense`` for each row of a CSR matrix: the product of the matrix with ``dense``.

    On CPUs it is an embedding bag, which sums rows in place, twice as fast as torch's CSR product.
    """
    if dense.device.type != "cpu":
        product: Tensor = _csr(starts, columns, values, (len(starts) - 1, len(dense))) @ dense
        return product
    return torch.nn.functional.embedding_bag(
        columns, dense, starts, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def sampled_dots(left: Tensor, right: Tensor, starts: Tensor, columns: Tensor) -> Tensor:
    """``left[row] · right[column]`` of every entry of a CSR matrix."""
    zeros = torch.zeros(len(columns), dtype=left.dtype, device=left.device)
    pattern = _csr(starts, columns, zeros, (len(left), len(right)))
    dots: Tensor = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()
    return dots


def row_dots(left: Float[Tensor, "row d"], right: Float[Tensor, "row d"]) -> Float[Tensor, "row"]:
    """Dot product of each row with the same row of another matrix, without the elementwise product in memory."""
    diagonal = torch.arange(len(left), device=left.device)[:, None]
    return ActiveLatents.from_rectangle(diagonal, len(right)).dots(left, right)


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


def _fastest(plain: Callable[..., Tensor], x: Tensor) -> Callable[..., Tensor]:
    """The fastest implementation for the device and dtype of ``x``: a compiled kernel, or the plain function."""
    if fits_triton(x):
        return compiled_kernel(plain, "Triton")
    # weighted sums stay plain on CPUs: a Numba kernel was slower than torch's embedding bag
    return compiled_kernel(plain, "Numba") if plain is sampled_dots and fits_numba(x) else plain


class _Encode(torch.autograd.Function):
    """Pre-activations of active pairs; the gradient reaches only their encoder rows."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        centre: Tensor,
        encoder: Tensor,
        bias: Tensor,
        values: Tensor,
        active: ActiveLatents,
    ) -> Tensor:
        ctx.save_for_backward(x, encoder)
        ctx.active = active
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, encoder = ctx.saved_tensors
        active: ActiveLatents = ctx.active
        needs_x, needs_centre, needs_encoder, needs_bias = ctx.needs_input_grad[:4]
        by_latent = active.column_sums(grad)
        to_x = active.matmul(grad, encoder) if needs_x else None
        # The centre is subtracted from all rows alike: one dense product of the column sums replaces a sparse one.
        to_centre = -(by_latent @ encoder) if needs_centre else None
        to_encoder = active.transposed_matmul(grad, x) if needs_encoder else None
        return to_x, to_centre, to_encoder, by_latent if needs_bias else None, None, None


class _Decode(torch.autograd.Function):
    """Weighted sum of the decoder rows of the active latents."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, decoder: Tensor, active: ActiveLatents) -> Tensor:
        ctx.save_for_backward(values, decoder)
        ctx.active = active
        return active.matmul(values, decoder)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, decoder = ctx.saved_tensors
        active: ActiveLatents = ctx.active
        grad = grad.contiguous()
        to_values = active.dots(grad, decoder) if ctx.needs_input_grad[0] else None
        to_decoder = active.transposed_matmul(values, grad) if ctx.needs_input_grad[1] else None
        return to_values, to_decoder, None


def encode(
    centred: Float[Tensor, "row d"],
    centre: Float[Tensor, "d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, "d_sae"],
    values: Float[Tensor, "entry"],
    active: ActiveLatents,
) -> Float[Tensor, "entry"]:
    """Activations of active pairs, differentiable in ``centred``, ``centre``, ``encoder`` and ``bias``.

    Args:
        centred: rows minus their centre.
        centre: what was subtracted. Its gradient flows through here when ``centred`` was computed without a graph.
        encoder: one row per latent.
        bias: of the latents.
        values: pre-activations of the pairs, computed without a graph; above 0.
        active: the pairs.
    """
    activations: Tensor = _Encode.apply(  # type: ignore[no-untyped-call]
        centred, centre, encoder, bias, values, active
    )
    return activations


def decode(
    values: Float[Tensor, "entry"], decoder: Float[Tensor, "d_sae d"], active: ActiveLatents
) -> Float[Tensor, "row d"]:
    """Decoded rows without the decoder bias, differentiable in ``values`` and ``decoder``."""
    reconstruction: Tensor = _Decode.apply(values, decoder, active)  # type: ignore[no-untyped-call]
    return reconstruction
