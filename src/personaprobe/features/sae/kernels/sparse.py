"""Sparse activations and their exact gradients: what a latent that does not fire costs is nothing.

The forward pass projects every row on every latent once; which latents fire is decided there, outside the graph.
From then on only the firing (row, latent) pairs are computed with. Decoding and all gradients are sparse products:
with k of d_sae latents firing, k / d_sae of the dense work.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.features.sae.kernels.dispatch import compiled, fits_numba, fits_triton

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

# torch says so at the first matrix; what is used here is held to the dense gradients by the tests
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)


@dataclass(frozen=True, eq=False)
class Firing:
    """Which latents fire in which rows: the pattern of a sparse matrix (CSR), without its values.

    Attributes:
        starts: ``(rows + 1)`` offsets of each row's entries.
        latents: of each entry, row by row.
        d_sae: how many latents there are.
    """

    starts: Int[Tensor, "offset"]
    latents: Int[Tensor, "entry"]
    d_sae: int

    @classmethod
    def each(cls, latents: Int[Tensor, "row k"], d_sae: int) -> Firing:
        """The pattern of rows that all have as many entries."""
        n_rows, k = latents.shape
        return cls(torch.arange(n_rows + 1, device=latents.device) * k, latents.flatten(), d_sae)

    @property
    def n_rows(self) -> int:
        """Rows of the batch."""
        return len(self.starts) - 1

    @cached_property
    def rows(self) -> Int[Tensor, "entry"]:
        """The row of each entry."""
        counts = self.starts.diff()
        return torch.repeat_interleave(torch.arange(self.n_rows, device=self.starts.device), counts)

    @cached_property
    def _by_latent(self) -> tuple[Tensor, Tensor]:
        """Entries in the order of their latents, and the offsets of each latent's."""
        # narrow integers are sorted several times faster
        narrow = torch.int16 if self.d_sae <= 2**15 else torch.int32
        order = self.latents.to(narrow).argsort(stable=True)
        return order, offsets(self.counts)

    @cached_property
    def counts(self) -> Int[Tensor, "d_sae"]:
        """How many rows each latent fires in."""
        return torch.bincount(self.latents, minlength=self.d_sae)

    def times(
        self, values: Float[Tensor, "entry"], dense: Float[Tensor, "d_sae d"]
    ) -> Float[Tensor, "row d"]:
        """``S @ dense``."""
        return _form(weighted_sums, dense)(dense, self.starts, self.latents, values)

    def transposed_times(
        self, values: Float[Tensor, "entry"], dense: Float[Tensor, "row d"]
    ) -> Float[Tensor, "d_sae d"]:
        """``Sᵀ @ dense``."""
        order, starts = self._by_latent
        return _form(weighted_sums, dense)(dense, starts, self.rows[order], values[order])

    def dots(self, left: Float[Tensor, "row d"], right: Float[Tensor, "d_sae d"]) -> Float[Tensor, "entry"]:
        """``left[row] · right[latent]`` of every entry."""
        return _form(sampled_dots, left)(left, right, self.starts, self.latents)

    def sums(self, values: Float[Tensor, "entry"]) -> Float[Tensor, "d_sae"]:
        """Column sums of ``S``."""
        return torch.zeros(self.d_sae, dtype=values.dtype, device=values.device).index_add_(
            0, self.latents, values
        )

    def only(self, keep: Bool[Tensor, "entry"]) -> Firing:
        """A part of the entries."""
        counts = torch.bincount(self.rows[keep], minlength=self.n_rows)
        return replace(self, starts=offsets(counts), latents=self.latents[keep])


def below_each_other(parts: Sequence[Firing]) -> Firing:
    """The pattern of several batches of rows as that of one."""
    if len(parts) == 1:
        return parts[0]
    counts = torch.cat([part.starts.diff() for part in parts])
    return Firing(offsets(counts), torch.cat([part.latents for part in parts]), parts[0].d_sae)


def offsets(counts: Tensor) -> Tensor:
    """Where each row's entries begin, and where the last one's end."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def weighted_sums(dense: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Each row's weighted sum of rows of ``dense``: the product of a sparse matrix with it."""
    if dense.device.type != "cpu":
        product: Tensor = _csr(starts, columns, values, (len(starts) - 1, len(dense))) @ dense
        return product
    # processors sum the rows of an embedding in place, twice as fast as a sparse product
    return torch.nn.functional.embedding_bag(
        columns, dense, starts, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def sampled_dots(left: Tensor, right: Tensor, starts: Tensor, columns: Tensor) -> Tensor:
    """``left[row] · right[column]`` of every entry of a sparse matrix."""
    zeros = torch.zeros(len(columns), dtype=left.dtype, device=left.device)
    pattern = _csr(starts, columns, zeros, (len(left), len(right)))
    found: Tensor = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()
    return found


def row_dots(left: Float[Tensor, "row d"], right: Float[Tensor, "row d"]) -> Float[Tensor, "row"]:
    """Each row's dot product with the same row of another matrix, without their product in memory."""
    return Firing.each(torch.arange(len(left), device=left.device)[:, None], len(right)).dots(left, right)


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


def _form(plain: Callable[..., Tensor], x: Tensor) -> Callable[..., Tensor]:
    """How something is computed where ``x`` is: by a kernel that is faster there, else plainly."""
    if fits_triton(x):
        return compiled(plain, "Triton")
    return compiled(plain, "Numba") if plain is sampled_dots and fits_numba(x) else plain


class _Encode(torch.autograd.Function):
    """Pre-activations of the firing pairs; the gradient reaches only their encoder rows."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, centre: Tensor, encoder: Tensor, bias: Tensor, values: Tensor, firing: Firing
    ) -> Tensor:
        ctx.save_for_backward(x, encoder)
        ctx.firing = firing
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, encoder = ctx.saved_tensors
        firing: Firing = ctx.firing
        wanted = ctx.needs_input_grad
        by_latent = firing.sums(grad)
        to_x = firing.times(grad, encoder) if wanted[0] else None
        # the same for all rows, so that they need not be told apart
        to_centre = -(by_latent @ encoder) if wanted[1] else None
        to_encoder = firing.transposed_times(grad, x) if wanted[2] else None
        return to_x, to_centre, to_encoder, by_latent if wanted[3] else None, None, None


class _Decode(torch.autograd.Function):
    """The sum of the decoder rows of the latents that fire."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, decoder: Tensor, firing: Firing) -> Tensor:
        ctx.save_for_backward(values, decoder)
        ctx.firing = firing
        return firing.times(values, decoder)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, decoder = ctx.saved_tensors
        firing: Firing = ctx.firing
        grad = grad.contiguous()
        to_values = firing.dots(grad, decoder) if ctx.needs_input_grad[0] else None
        to_decoder = firing.transposed_times(values, grad) if ctx.needs_input_grad[1] else None
        return to_values, to_decoder, None


def encode(
    centred: Float[Tensor, "row d"],
    centre: Float[Tensor, "d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, "d_sae"],
    values: Float[Tensor, "entry"],
    firing: Firing,
) -> Float[Tensor, "entry"]:
    """Activations of the firing pairs, differentiable in ``centred``, ``centre``, ``encoder`` and ``bias``.

    Args:
        centred: rows, less their centre.
        centre: what was taken off; its gradient flows through here where ``centred`` was made without a graph.
        encoder: one row a latent.
        bias: of the latents.
        values: pre-activations of the pairs, computed without a graph; above 0.
        firing: the pairs.
    """
    found: Tensor = _Encode.apply(  # type: ignore[no-untyped-call]
        centred, centre, encoder, bias, values, firing
    )
    return found


def decode(
    values: Float[Tensor, "entry"], decoder: Float[Tensor, "d_sae d"], firing: Firing
) -> Float[Tensor, "row d"]:
    """What the firing latents write, differentiable in ``values`` and ``decoder``."""
    found: Tensor = _Decode.apply(values, decoder, firing)  # type: ignore[no-untyped-call]
    return found
