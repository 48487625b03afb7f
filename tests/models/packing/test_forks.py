"""In a packed row each answer token attends to exactly the tokens it would see in a row of its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personaprobe.models.network import Fork, Network
from personaprobe.models.packing import prefix_tree
from personaprobe.models.packing.forks import pack_forks
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
    for group, expected_group in zip(packed, separate, strict=True):
        for one, other in zip(group, expected_group, strict=True):
            assert torch.allclose(one, other, atol=2e-4), (one, other)


def test_an_answer_does_not_attend_to_its_neighbour(reference: Network) -> None:
    alone = reference.fork_log_probs([Fork(FORKS[0].prompt, (FORKS[0].answers[1],))], {})[0][0]
    for neighbour in ((9, 10, 11), (90, 91), (3,)):
        packed = reference.fork_log_probs([Fork(FORKS[0].prompt, (neighbour, FORKS[0].answers[1]))], {})[0][1]
        assert torch.allclose(alone, packed, atol=2e-4)


def test_a_shared_prefix_is_computed_once(reference: Network) -> None:
    n_tokens: list[int] = []

    def count(x: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        n_tokens.append(int((roles != Role.PAD).sum()))
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_PREFIX", 1)
        reference.fork_log_probs(FORKS, {Site(0): [count]})
    rows = [row for fork in FORKS for row in fork.rows]
    assert sum(n_tokens) == len({row.ids[: n + 1] for row in rows for n in range(len(row))})


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
def test_a_mask_over_the_row_equals_attention_per_segment(reference: Network, forks: list[Fork]) -> None:
    if not reference.packs:  # type: ignore[attr-defined]
        pytest.skip("attention is softcapped: a mask is the only way")
    by_segment = reference.fork_log_probs(forks, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(reference), "packs", False)
        masked = reference.fork_log_probs(forks, {})
    for group, expected_group in zip(by_segment, masked, strict=True):
        for one, other in zip(group, expected_group, strict=True):
            assert torch.allclose(one, other, atol=2e-4), (one, other)
