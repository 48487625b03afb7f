"""Prompts with a common prefix are grouped, and each keeps at least its last token."""

from __future__ import annotations

from personaprobe.models.packing.prefixes import common_prefix, group_by_prefix
from personaprobe.models.tokens import Role, Tokens


def prompt(*ids: int) -> Tokens:
    return Tokens(ids, (int(Role.PROMPT),) * (len(ids) - 1) + (int(Role.PROMPT | Role.LAST_PROMPT),))


def test_the_common_prefix_leaves_every_prompt_its_last_token() -> None:
    assert common_prefix([prompt(1, 2, 3), prompt(1, 2, 3)]).ids == (1, 2)
    assert common_prefix([prompt(5, 6, 7, 8), prompt(5, 6, 20), prompt(5, 6, 7, 30, 31, 32)]).ids == (5, 6)


def test_prompts_with_a_common_prefix_form_groups_and_the_rest_another() -> None:
    prompts = [prompt(*ids) for ids in ((1, 2, 3, 9), (7, 7, 7, 7), (1, 2, 3, 4), (5, 6, 8, 8), (1, 2, 4, 4))]
    groups = group_by_prefix(prompts, 2)
    assert sorted(map(sorted, groups)) == [[0, 2, 4], [1, 3]]
    assert group_by_prefix(prompts[:1], 2) == [[0]]
