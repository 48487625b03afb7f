"""Triton kernels equal the plain functions; without a GPU, Triton's own interpreter runs them."""

from __future__ import annotations

import warnings
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from personaprobe.features.sae.kernels import selection, sparse
from personaprobe.features.sae.kernels.dispatch import compiled_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    pytest.importorskip("triton", reason="Triton comes with torch where there are GPUs")
    from personaprobe.features.sae.kernels import triton_kernels

    return triton_kernels


def drawn(n_rows: int, d_sae: int, width: int, share: float, seed: int) -> tuple[Tensor, ...]:
    """Dense matrices, and a pattern in which each pair is with some probability."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(n_rows, d_sae, generator=generator) < share
    starts = torch.nn.functional.pad(there.sum(1).cumsum(0), (1, 0))
    left, right = torch.randn(n_rows + d_sae, width, generator=generator).split([n_rows, d_sae])
    values = torch.randn(int(starts[-1]), generator=generator)
    return tuple(each.to(DEVICE) for each in (left, right, starts, there.nonzero()[:, 1], values))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.sampled_from([1, 16, 37, 256, 300]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.integers(0, 1000),
)
def test_kernels_equal_the_plain_functions(
    kernels: ModuleType, n_rows: int, d_sae: int, width: int, share: float, seed: int
) -> None:
    left, right, starts, columns, values = drawn(n_rows, d_sae, width, share, seed)
    assert torch.allclose(
        kernels.weighted_sums(right, starts, columns, values),
        sparse.weighted_sums(right, starts, columns, values),
        atol=1e-4,
    )
    assert torch.allclose(
        kernels.sampled_dots(left, right, starts, columns),
        sparse.sampled_dots(left, right, starts, columns),
        atol=1e-4,
    )


def test_matrices_need_not_be_contiguous(kernels: ModuleType) -> None:
    left, right, starts, columns, values = drawn(5, 7, 24, 0.5, 0)
    turned = right.T.contiguous().T
    assert torch.equal(
        kernels.weighted_sums(turned, starts, columns, values),
        kernels.weighted_sums(right, starts, columns, values),
    )
    assert torch.equal(
        kernels.sampled_dots(left, turned, starts, columns),
        kernels.sampled_dots(left, right, starts, columns),
    )


def test_gradients_with_kernels_equal_the_plain_ones(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients() -> list[Tensor]:
        x, encoder, decoder = (torch.randn(n, 20, generator=generator).to(DEVICE) for n in (6, 30, 30))
        leaves = [each.requires_grad_() for each in (torch.zeros(20).to(DEVICE), encoder, decoder)]
        bias = torch.zeros(30).to(DEVICE)
        active, selected = selection.top_k(lambda rows: rows, x @ encoder.T.detach(), 30, 4)
        values = sparse.encode(x, leaves[0], encoder, bias, selected, active)
        (sparse.decode(values, decoder, active) - x).pow(2).sum().backward()
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    generator = torch.Generator().manual_seed(0)
    monkeypatch.setattr(sparse, "_fastest", lambda form, _: form)
    expected = gradients()
    generator.manual_seed(0)
    monkeypatch.setattr(sparse, "_fastest", lambda form, _: compiled_kernel(form, "Triton"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a note would say that it is computed without Triton
        result = gradients()
    assert len(result) == 3
    for one, other in zip(result, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
