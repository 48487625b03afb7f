"""Packed rows: each answer sees exactly what it would see in a row of its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personaprobe.models.network import Fork, Network
from personaprobe.models.packing import prefix_tree
from personaprobe.models.packing.forks import pack_forks
from personaprobe.models.packing.prefixes import common_prefix, group_by_prefix
from personaprobe.models.tokens import Role, Tokens
from personaprobe.site import Site


def prompt(*ids: int) -> Tokens:
    return Tokens(ids, (int(Role.PROMPT),) * (len(ids) - 1) + (int(Role.PROMPT | Role.LAST_PROMPT),))


FORKS = [
    Fork(prompt(5, 6, 7, 8), ((9, 10, 11), (12, 13))),
    Fork(prompt(5, 6, 20), ((9,), (14, 15, 16, 17), (3, 4))),
    Fork(prompt(5, 6, 7, 30, 31, 32), ((40, 41),)),
]


@pytest.mark.parametrize("forks", [FORKS, FORKS[:1], [*FORKS, Fork(prompt(60, 61), ((62, 63),))]], ids=len)
def test_packed_scores_equal_separate_rows_under_an_edit(reference: Network, forks: list[Fork]) -> None:
    edits = {Site(1): [lambda x, roles: x + 0.3 * ((roles & Role.RESPONSE) != 0)[..., None]]}
    packed = reference.fork_log_probs(forks, edits)
    separate = Network.fork_log_probs(reference, forks, edits)
    for group, wanted in zip(packed, separate, strict=True):
        for one, other in zip(group, wanted, strict=True):
            assert torch.allclose(one, other, atol=2e-4), (one, other)


def test_an_answer_does_not_see_its_neighbour(reference: Network) -> None:
    alone = reference.fork_log_probs([Fork(FORKS[0].prompt, (FORKS[0].answers[1],))], {})[0][0]
    for neighbour in ((9, 10, 11), (90, 91), (3,)):
        beside = reference.fork_log_probs([Fork(FORKS[0].prompt, (neighbour, FORKS[0].answers[1]))], {})[0][1]
        assert torch.allclose(alone, beside, atol=2e-4)


def test_a_shared_start_is_read_once(reference: Network) -> None:
    read: list[int] = []

    def count(x: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        read.append(int((roles != Role.PAD).sum()))
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_PREFIX", 1)
        reference.fork_log_probs(FORKS, {Site(0): [count]})
    rows = [row for fork in FORKS for row in fork.rows]
    assert sum(read) == len({row.ids[: n + 1] for row in rows for n in range(len(row))})


def test_the_shared_start_leaves_every_prompt_its_last_token() -> None:
    assert common_prefix([prompt(1, 2, 3), prompt(1, 2, 3)]).ids == (1, 2)
    assert common_prefix([fork.prompt for fork in FORKS]).ids == (5, 6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_every_answer_token_is_predicted_once_from_the_token_before_it(
    shapes: list[tuple[int, list[int]]],
) -> None:
    ids = iter(range(1, 1000))
    forks = [
        Fork(
            prompt(*(next(ids) for _ in range(n))), tuple(tuple(next(ids) for _ in range(k)) for k in lengths)
        )
        for n, lengths in shapes
    ]
    packed = pack_forks(forks, torch.device("cpu"))
    expected = [
        ((*fork.prompt.ids, *answer)[len(fork.prompt) + i - 1], token)
        for fork in forks
        for answer in fork.answers
        for i, token in enumerate(answer)
    ]
    before = packed.texts.row.ids[0, packed.predictor_index].tolist()
    assert list(zip(before, packed.answer_ids.tolist(), strict=True)) == expected


@pytest.mark.parametrize("forks", [FORKS, FORKS[1:2]], ids=len)
def test_one_mask_over_the_row_says_what_the_stretches_say(reference: Network, forks: list[Fork]) -> None:
    if not reference.packs:  # type: ignore[attr-defined]
        pytest.skip("attention is softcapped: a mask is the only way")
    by_segment = reference.fork_log_probs(forks, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(reference), "packs", False)
        masked = reference.fork_log_probs(forks, {})
    for group, wanted in zip(by_segment, masked, strict=True):
        for one, other in zip(group, wanted, strict=True):
            assert torch.allclose(one, other, atol=2e-4), (one, other)


def test_prompts_that_begin_alike_are_read_together_and_the_rest_by_themselves() -> None:
    prompts = [prompt(*ids) for ids in ((1, 2, 3, 9), (7, 7, 7, 7), (1, 2, 3, 4), (5, 6, 8, 8), (1, 2, 4, 4))]
    groups = group_by_prefix(prompts, 2)
    assert sorted(map(sorted, groups)) == [[0, 2, 4], [1, 3]]
    assert group_by_prefix(prompts[:1], 2) == [[0]]
