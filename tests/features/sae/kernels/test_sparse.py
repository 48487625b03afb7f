"""Gradients of the sparse products equal the dense ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from personaprobe.features.sae.kernels import selection, sparse

N, D, M = 24, 12, 40


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def as_they_are(rows: Tensor) -> Tensor:
    """For rows that are pre-activations already."""
    return rows


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.booleans(), st.integers(0, 1000))
def test_sparse_gradients_are_the_dense_ones(k: int, batchwise: bool, seed: int) -> None:
    drawn = (numbers(N, D, seed=seed), numbers(D), numbers(M, D), numbers(M, seed=1), numbers(M, D, seed=2))
    x, centre, encoder, bias, _ = given = tuple(tensor.double() for tensor in drawn)
    pre = (x - centre) @ encoder.T + bias
    select = selection.batch_top_k if batchwise else selection.top_k
    active, selected = select(as_they_are, pre, M, k)
    mask = torch.zeros(N, M, dtype=torch.float64)
    mask[active.rows, active.latents] = 1.0

    def gradients(loss: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        return torch.autograd.grad(loss(*leaves), leaves)

    def thin(x: Tensor, centre: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor:
        centred = x - centre.detach()
        values = sparse.encode(centred, centre, encoder, bias, selected, active)
        return (sparse.decode(values, decoder, active) - x).pow(2).sum()

    def dense(x: Tensor, centre: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor:
        return ((((x - centre) @ encoder.T + bias) * mask) @ decoder - x).pow(2).sum()

    for sparsely, densely in zip(gradients(thin), gradients(dense), strict=True):
        assert torch.allclose(sparsely, densely, rtol=1e-9, atol=1e-9)
