"""Common prefixes of prompts, and groups of prompts that share one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from personaprobe.models.tokens import Tokens


def common_prefix(prompts: Sequence[Tokens]) -> Tokens:
    """Return the longest common prefix, such as the system message, that leaves every prompt at least one more token."""
    first = prompts[0]
    # a prompt's last token is always computed anew: its logits choose the first token of the answer
    max_length = min(map(len, prompts)) - 1
    same = [
        all(p.ids[i] == first.ids[i] and p.roles[i] == first.roles[i] for p in prompts)
        for i in range(max_length)
    ]
    return first.first(same.index(False) if False in same else max_length)


def group_by_prefix(prompts: Sequence[Tokens], min_shared: int) -> list[list[int]]:
    """Group prompts whose common prefix has at least ``min_shared`` tokens; prompts without partners form one last group.

    Returns:
        Indices of the prompts, one list for each group.
    """
    order = sorted(range(len(prompts)), key=lambda index: prompts[index].ids)
    groups = [[order[0]]]
    for before, index in pairwise(order):
        if len(common_prefix([prompts[before], prompts[index]])) < min_shared:
            groups.append([])
        groups[-1].append(index)
    alone = [group[0] for group in groups if len(group) == 1]
    return [group for group in groups if len(group) > 1] + ([alone] if alone else [])
