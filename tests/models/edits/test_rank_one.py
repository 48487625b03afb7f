"""Rank-one edits: one pass edits every row of a batch as its own edit would edit it alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from personaprobe.errors import FeatureError
from personaprobe.models.edits.edit import Edit, EditPlan, apply
from personaprobe.models.edits.per_row import PerRowEdits, per_row
from personaprobe.models.edits.rank_one import AffineClamp, RankOneEdit
from personaprobe.models.tokens import Role
from personaprobe.site import Site

SITE, D, POS = Site(0), 16, 5
CPU = torch.device("cpu")
ROLES = (int(Role.PROMPT), int(Role.RESPONSE), 0)

numbers = st.floats(-3, 3, allow_nan=False, width=32)
moves = st.builds(
    lambda scale, shift, bounds: AffineClamp(scale, shift, *bounds),
    numbers,
    numbers,
    st.one_of(
        st.just((-float("inf"), float("inf"))), st.tuples(numbers, numbers).map(sorted), st.just((-0.5, 2e9))
    ),
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vector(seed: int) -> Tensor:
    return torch.nn.functional.normalize(drawn(D, seed=seed), dim=0)


@st.composite
def edits(draw: st.DrawFn) -> EditPlan:
    n = draw(st.integers(0, 2))
    drawn_edits = tuple(
        RankOneEdit(vector(draw(st.integers(0, 3))), draw(moves), draw(st.sampled_from([1, 2, 7])), "test")
        for _ in range(n)
    )
    return EditPlan.of({SITE: drawn_edits} if drawn_edits else {})


def batch(n: int) -> tuple[Tensor, Tensor]:
    roles = torch.tensor(ROLES)[torch.randint(3, (n, POS), generator=torch.Generator().manual_seed(n))]
    return drawn(n, POS, D, seed=n), roles


@settings(max_examples=80, deadline=None)
@given(st.lists(edits(), min_size=1, max_size=4), st.data())
def test_rows_of_a_batch_are_edited_as_each_would_be_alone(
    kinds: list[EditPlan], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=7))
    activations, roles = batch(len(rows))
    alone = torch.cat(
        [apply(plan.get(SITE, ()), activations[i : i + 1], roles[i : i + 1]) for i, plan in enumerate(rows)]
    )
    together = apply(per_row(rows, CPU).get(SITE, ()), activations, roles)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    laid = PerRowEdits(kinds)
    which = torch.tensor(laid.kinds(rows))
    following = laid.for_row_kinds(which)
    assert following is not None
    torch.testing.assert_close(
        apply(following.get(SITE, ()), activations, roles), alone, atol=1e-5, rtol=1e-5
    )


def test_rows_without_edits_stay_bitwise_the_same_in_every_dtype() -> None:
    arms = [EditPlan(), EditPlan.of({SITE: (RankOneEdit(vector(0), AffineClamp(0.0, 5.0), 7, "test"),)})]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        activations, roles = batch(6)
        activations = (1e3 * activations).to(dtype)
        (edit,) = per_row([arms[i % 2] for i in range(6)], CPU)[SITE]
        edited = edit(activations, roles)
        assert edited.dtype == dtype
        assert torch.equal(edited[::2], activations[::2])
        assert not torch.equal(edited[1::2], activations[1::2])
        assert torch.equal(edited[roles == 0], activations[roles == 0])


def test_rows_that_change_their_kind_in_place_are_edited_by_the_new_one() -> None:
    arms = [EditPlan(), EditPlan.of({SITE: (RankOneEdit(vector(0), AffineClamp(shift=1.0), 7, "test"),)})]
    which = torch.tensor([0, 1])
    laid = PerRowEdits(arms).for_row_kinds(which)
    assert laid is not None
    activations, roles = drawn(2, 1, D), torch.full((2, 1), int(Role.RESPONSE))
    for kinds in ([0, 1], [1, 0]):
        which.copy_(torch.tensor(kinds))
        change = (apply(laid[SITE], activations, roles) - activations).norm(dim=-1)[:, 0]
        assert [round(float(size), 4) for size in change] == kinds


@pytest.mark.parametrize(
    "other", [lambda x, _: 2 * x, RankOneEdit(torch.ones(1), AffineClamp(), 7, "of another model")]
)
def test_edits_that_are_not_of_rank_one_apply_to_their_own_rows(other: Edit) -> None:
    arms = [
        EditPlan(),
        EditPlan.of({SITE: (RankOneEdit(vector(0), AffineClamp(shift=1.0), 7, "test"),)}),
        EditPlan.of({SITE: (other,)}),
    ]
    assert PerRowEdits(arms).for_row_kinds(torch.tensor([0, 1, 2])) is None
    activations, roles = drawn(3, 1, D), torch.full((3, 1), int(Role.RESPONSE))
    (edit,) = per_row(arms, CPU)[SITE]
    if isinstance(other, RankOneEdit):
        with pytest.raises(FeatureError, match="direction of another model has d_model 1 and the model 16"):
            edit(activations, roles)
        return
    edited = edit(activations, roles)
    assert torch.equal(edited[0], activations[0])
    assert torch.equal(edited[2], 2 * activations[2])
    assert not torch.equal(edited[1], activations[1])


def test_directions_of_another_width_are_refused_in_batches_too() -> None:
    arms = [EditPlan(), EditPlan.of({SITE: (RankOneEdit(torch.ones(3), AffineClamp(), 7, "narrow"),)})]
    (edit,) = per_row(arms, CPU)[SITE]
    with pytest.raises(FeatureError, match="direction narrow has d_model 3 and the model 16"):
        edit(drawn(2, 1, D), torch.ones(2, 1, dtype=torch.long))


def test_gradients_pass_an_edit_that_was_first_made_without_them() -> None:
    edit = RankOneEdit(vector(0), AffineClamp(scale=0.25, shift=1.0, high=1e3), 7, "test")
    activations, roles = drawn(1, 1, D), torch.ones(1, 1, dtype=torch.long)
    with torch.inference_mode():
        edit(activations, roles)
    traced = activations.requires_grad_()
    (edit(traced, roles) * vector(0)).sum().backward()
    torch.testing.assert_close(traced.grad, (0.25 * vector(0))[None, None])
