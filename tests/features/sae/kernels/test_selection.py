"""The selection finds the largest pre-activations, exactly or through candidates in bfloat16."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from personaprobe.features.sae.kernels import selection, sparse
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from random_dictionaries import D, M, N, autoencoder, numbers

NONE_DEAD = torch.zeros(M, dtype=torch.bool)


def as_they_are(rows: Tensor) -> Tensor:
    """For rows that are pre-activations already."""
    return rows


def equal_in_bf16(n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of which every two are the same in bfloat16: encoder, bias and rows."""
    encoder, bias = numbers(256, D), numbers(256, seed=1)
    encoder[1::2] = encoder[::2] * 1.0005
    bias[1::2] = bias[::2]
    return encoder, bias, numbers(n_rows, D, seed=2)


@pytest.mark.parametrize("k", [1, 7, 16])
@pytest.mark.parametrize(("spare", "least"), [(1, 0.9995), (8, 0.9995), (300, 1.0)])
def test_candidates_of_a_rough_product_are_chosen_by_their_exact_values(
    k: int, spare: int, least: float
) -> None:
    """Latents that are equal in bfloat16 are separated in float32, however few are spare."""
    encoder, bias, x = equal_in_bf16(2000)
    pre = torch.addmm(bias, x, encoder.T)
    active, values = selection.preselected_top_k(
        x, encoder, bias, selection.bf16_affine(encoder, bias), k, spare
    )
    wanted, exact = selection.top_k(as_they_are, pre, 256, k)
    assert torch.equal(active.starts, wanted.starts)
    assert torch.allclose(pre[active.rows, active.latents], values, atol=1e-4)
    pairs = zip(_by_row(active, values), _by_row(wanted, exact), strict=True)
    same = torch.cat([torch.isclose(result, expected, rtol=1e-5, atol=1e-5) for result, expected in pairs])
    assert float(same.double().mean()) >= least


@pytest.mark.parametrize(("off", "left_open"), [(0.01, False), (0.1, True)])
def test_rows_are_uncertain_in_proportion_to_the_error_of_rough_values_of_similar_size(
    off: float, left_open: bool
) -> None:
    guessed = torch.tensor([[90.0, 3.0, 2.2, 2.0], [90.0, 3.0, 1.0, -1.0]])
    errors = torch.tensor([5.0, off, off, -off])  # what is far larger is farther off, and says nothing
    full = guessed + errors
    top = full.topk(2).indices
    assert selection._uncertain_rows(guessed, full, top).tolist() == [False, False]
    closer = torch.tensor([[90.0, 2.3, 2.2, 2.0]])
    assert selection._uncertain_rows(closer, closer + errors, top[:1]).tolist() == [left_open]


@pytest.mark.parametrize("architecture", [TopKArchitecture(4), BatchTopKArchitecture(4)])
@pytest.mark.parametrize("helps", [True, False])
def test_a_step_with_preselection_equals_the_exact_step(
    helps: bool, architecture: TopKArchitecture | BatchTopKArchitecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "is_faster_in_bf16", lambda: helps)
    x = numbers(N, D, seed=7)
    exactly, roughly = autoencoder(), autoencoder()
    for _ in range(3):  # a batch's threshold is guessed from the last one's
        exact = architecture.losses(exactly, x, NONE_DEAD)
        rough = replace(architecture, preselect=True).losses(roughly, x, NONE_DEAD)
        assert torch.equal(exact.active_counts, rough.active_counts)
        assert torch.allclose(exact.total, rough.total, rtol=1e-5)
    assert roughly.smallest_active == pytest.approx(exactly.smallest_active)


@pytest.mark.parametrize("k", [1, 7, 16])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.9999, 1.0, 1.5])
def test_preselection_of_a_batch_does_not_depend_on_the_guess(k: int, share: float) -> None:
    encoder, bias, x = equal_in_bf16(2000)
    pre = torch.addmm(bias, x, encoder.T)
    wanted, exact = selection.batch_top_k(as_they_are, pre, 256, k)
    rough = selection.bf16_affine(encoder, bias)
    active, values = selection.preselected_batch_top_k(x, encoder, bias, rough, k, share * float(exact.min()))
    assert torch.allclose(pre[active.rows, active.latents], values, atol=1e-4)
    assert torch.allclose(values.sort().values, exact.sort().values, rtol=1e-5, atol=1e-5)
    assert torch.equal(active.starts, wanted.starts)


def test_a_batch_is_computed_in_full_if_its_smallest_value_is_within_the_error_of_the_guess(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, bias, x = equal_in_bf16(200)
    smallest = float(selection.batch_top_k(as_they_are, torch.addmm(bias, x, encoder.T), 256, 7)[1].min())
    guesses: list[float] = []
    batch_top_k = selection.batch_top_k

    def in_full(*given: Any) -> Any:
        guesses.append(given[-1])
        return batch_top_k(*given)

    monkeypatch.setattr(selection, "batch_top_k", in_full)
    rough = selection.bf16_affine(encoder, bias)
    for share in (0.9, 0.9999):
        selection.preselected_batch_top_k(x, encoder, bias, rough, 7, share * smallest)
    assert guesses == [0.9999 * smallest]


def _by_row(active: sparse.ActiveLatents, values: Tensor) -> list[Tensor]:
    """Values of each row, the largest first: equal ones may stand for each other."""
    return [row.sort(descending=True).values for row in torch.tensor_split(values, active.starts[1:-1])]


@pytest.mark.parametrize("missing", [True, False])
def test_affine_maps_are_the_same_with_and_without_packed_weights(
    missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection.onednn, "can_pack", lambda _: not missing)
    matrix, bias, x = numbers(64, D), numbers(64, seed=1), numbers(N, D, seed=2)
    torch.testing.assert_close(selection.affine(matrix, bias)(x), x @ matrix.T + bias)


@pytest.mark.parametrize(
    "architecture", [TopKArchitecture(4), TopKArchitecture(4, preselect=True), BatchTopKArchitecture(4)]
)
def test_chunks_of_rows_give_the_same_result_as_all_rows_at_once(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, x = autoencoder(), numbers(N, D, seed=7)
    whole = architecture.losses(ours, x, NONE_DEAD)
    monkeypatch.setattr(selection, "CHUNK_ELEMENTS", 5 * M)
    monkeypatch.setattr(selection, "ROW_MULTIPLE", 1)
    assert len(list(selection.row_chunks(x, M))) == 5
    parts = architecture.losses(ours, x, NONE_DEAD)
    assert torch.equal(whole.active_counts, parts.active_counts)
    assert torch.allclose(whole.total, parts.total, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 10), st.floats(0, 3), st.integers(0, 1000))
def test_batch_top_k_does_not_depend_on_the_guess(k: float, guess: float, seed: int) -> None:
    pre = numbers(N, M, seed=seed)
    active, values = selection.batch_top_k(as_they_are, pre, M, k, guess)
    assert torch.equal(values, pre[active.rows, active.latents])
    selected = torch.zeros(N, M, dtype=torch.bool)
    selected[active.rows, active.latents] = True
    assert selected.sum() == min(int(k * N), int((pre > 0).sum()))
    assert bool((pre[selected] > 0).all())
    if selected.any():
        assert not bool((pre[~selected] > pre[selected].min()).any())
