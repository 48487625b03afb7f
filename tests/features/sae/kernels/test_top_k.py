"""Searches find the same values as sorting, compiled or not; compiled kernels equal the plain functions."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from personaprobe.compute import openmp
from personaprobe.features.sae.kernels import sparse, top_k
from personaprobe.features.sae.kernels.dispatch import compiled_kernel

N = 24


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    if not openmp.is_available():
        pytest.skip("torch does not compute with GNU OpenMP here")
    from personaprobe.features.sae.kernels import numba_kernels

    return numba_kernels


@pytest.fixture(params=["as Numba compiled it", "plainly"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ways to search; a note would say that Numba failed."""
    if request.param == "plainly":
        monkeypatch.setattr(openmp, "is_available", lambda: False)
    elif not openmp.is_available():
        pytest.skip("torch does not compute with GNU OpenMP here")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


both = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@both
@given(
    st.sampled_from([1024, 1000, 999]),
    st.integers(1, 40),
    st.integers(0, 1000),
    st.booleans(),
    st.sampled_from([0.0, 3.0, 9.0]),
)
def test_the_search_finds_the_same_values_as_sorting(
    form: None, dtype: torch.dtype, width: int, k: int, seed: int, clustered: bool, lowered: float
) -> None:
    pre = (numbers(N, width, seed=seed) - lowered).to(dtype)  # lowered: hardly any is above 0, or none
    if clustered:  # all of them in one group, in neighbouring places, and in rows unlike the one before
        pre[:, :: 1024 // top_k.group_size(1024, k)] += 5.0
        pre[:, 7:19] += 9.0
        pre[::3] *= 100.0
    values, places = top_k.row_top_k(pre, k)
    assert torch.equal(values.clamp(min=0).sort().values, pre.topk(k).values.clamp(min=0).sort().values)
    assert torch.equal(pre.gather(1, places), values)
    assert all(len(set(row.tolist())) == k for row in places)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@both
@given(st.integers(1, 100), st.sampled_from([0.0, 0.5, 0.9999, 2.0, 9.0]), st.integers(0, 1000))
def test_entries_above_a_threshold_are_all_of_them(
    form: None, dtype: torch.dtype, width: int, floor: float, seed: int
) -> None:
    pre = numbers(N, width, seed=seed).to(dtype)
    pre[3, :] = floor  # which is not above itself
    active, values = top_k.entries_above(pre, floor)
    assert torch.equal(torch.stack([active.rows, active.latents], dim=1), (pre > floor).nonzero())
    assert torch.equal(values, pre[pre > floor])
    assert active.d_sae == width


def test_of_equal_values_any_k_are_found_each_once(form: None) -> None:
    values, places = top_k.row_top_k(torch.ones(N, 1024), 20)
    assert values.eq(1).all()
    assert all(len(set(row.tolist())) == 20 for row in places)


def test_nan_is_among_the_largest(form: None) -> None:
    pre = numbers(N, 1024)
    pre[5, 700] = torch.nan
    values, places = top_k.row_top_k(pre, 20)
    assert values[5].isnan().sum() == 1
    assert 700 in places[5]


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3])
def test_a_few_rows_or_none_are_searched_correctly(form: None, n_rows: int) -> None:
    pre = numbers(n_rows, 1024)
    values, _ = top_k.row_top_k(pre, 20)
    assert torch.equal(values.sort().values, pre.topk(20).values.sort().values)
    assert torch.equal(top_k.entries_above(pre, 1.0)[1], pre[pre > 1.0])


@pytest.mark.parametrize(
    ("width", "k", "size"), [(4096, 32, 8), (4096, 64, 8), (16384, 32, 16), (128, 32, 2), (30, 32, 1)]
)
def test_the_group_size_balances_the_two_searches(width: int, k: int, size: int) -> None:
    assert top_k.group_size(width, k) == size


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.sampled_from([1, 16, 37, 300]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.integers(0, 1000),
)
def test_compiled_dot_products_equal_the_plain_ones(
    kernels: ModuleType, n_rows: int, d_sae: int, width: int, share: float, seed: int
) -> None:
    there = torch.rand(n_rows, d_sae, generator=torch.Generator().manual_seed(seed)) < share
    left, right = numbers(n_rows, width, seed=seed), numbers(d_sae, width, seed=seed + 1)
    starts = torch.nn.functional.pad(there.sum(1).cumsum(0), (1, 0))
    given = (left, right, starts, there.nonzero()[:, 1])
    torch.testing.assert_close(
        kernels.sampled_dots(*given), sparse.sampled_dots(*given), atol=1e-4, rtol=1e-4
    )


def test_dot_products_do_not_depend_on_the_memory_layout(form: None) -> None:
    left, right = numbers(5, 16), numbers(5, 16, seed=1)
    turned = right.T.contiguous().T
    expected = (left * right).sum(-1)
    for pair in ((left, right), (left, turned), (turned, left)):
        active = sparse.ActiveLatents.from_rectangle(torch.arange(5)[:, None], 5)
        dots = (pair[0] * pair[1]).sum(-1)
        torch.testing.assert_close(active.dots(*pair), dots)
    torch.testing.assert_close(sparse.row_dots(left, right), expected)


def test_a_kernel_whose_result_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, kernels: ModuleType
) -> None:
    def wrong(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return pre[:, :k].clone(), torch.arange(k).expand(len(pre), k)

    monkeypatch.setattr(kernels, "top_k_by_group", wrong)
    pre = numbers(N, 1024)
    fresh = compiled_kernel.__wrapped__(top_k.top_k_by_group, "Numba", top_k._same_values)
    with pytest.warns(
        UserWarning, match="top_k_by_group is computed without Numba, more slowly: its result differs"
    ):
        values, _ = fresh(pre, 20)
    assert torch.equal(values.sort().values, pre.topk(20).values.sort().values)


# The threads of torch


def in_threads(do: Callable[[int], bool]) -> list[bool]:
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(do, range(12)))


def test_several_threads_may_search_at_once(form: None) -> None:
    def right(seed: int) -> bool:
        pre = numbers(N, 1024, seed=seed)
        values = top_k.row_top_k(pre, 20)[0].sort().values
        return torch.equal(values, pre.topk(20).values.sort().values)

    assert all(in_threads(right))


SEARCHES = """
import torch
from personaprobe.features.sae.kernels import top_k
torch.set_num_threads({threads})
pre = torch.randn(50, 1024, generator=torch.Generator().manual_seed(0))
for _ in range(2):
    assert torch.equal(top_k.row_top_k(pre, 20)[0].sort().values, pre.topk(20).values.sort().values)
    assert torch.equal(top_k.entries_above(pre, 1.0)[1], pre[pre > 1.0])
"""


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_as_many_threads_search_as_torch_uses(threads: int) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", SEARCHES.format(threads=threads)], check=True)


def test_without_openmp_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_library", lambda: None)
    assert not openmp.is_available()
    with pytest.raises(OSError, match="does not compute with GNU OpenMP"):
        openmp.run_on_threads(0, [])


def test_a_system_without_rtld_noload_has_no_openmp_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "RTLD_NOLOAD", raising=False)
    assert openmp._library.__wrapped__() is None
