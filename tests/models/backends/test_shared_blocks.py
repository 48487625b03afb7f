"""Blocks before the first edit are computed once for several passes, whose results stay bitwise the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.models.backends.shared_blocks import n_unedited_blocks
from personaprobe.models.loading import wrap
from personaprobe.models.network import Fork, Network
from personaprobe.models.tokens import Role, Tokens
from personaprobe.site import Site


def prompt(*ids: int) -> Tokens:
    return Tokens(ids, (int(Role.PROMPT),) * (len(ids) - 1) + (int(Role.PROMPT | Role.LAST_PROMPT),))


FORKS = [
    Fork(prompt(5, 6, 7, 8), ((9, 10, 11), (12, 13))),
    Fork(prompt(5, 6, 20), ((9,), (14, 15, 16, 17), (3, 4))),
]
APART = [Fork(prompt(4, 6, 7), ((9, 10),)), Fork(prompt(5, 6), ((3, 4), (8,)))]
"""Prompts with nothing in common at the start."""


def scaled(site: Site, factor: float) -> dict[Site, Any]:
    return {site: (lambda x, roles: x * factor,)}


def sites(network: Network) -> list[Site]:
    return [Site(layer, stream) for layer in (1, 2) for stream in network.streams]


@pytest.mark.parametrize("forks", [FORKS, APART], ids=["one start", "no common start"])
def test_scores_under_several_edits_are_bitwise_those_under_each_alone(
    reference: Network, forks: list[Fork]
) -> None:
    for site in sites(reference):
        edits = [scaled(site, 1.1), scaled(site, 0.8), {}, scaled(Site(2), 1.3)]
        together = reference.fork_log_probs_each(forks, edits)
        for scored, edit in zip(together, edits, strict=True):
            alone = reference.fork_log_probs(forks, edit)
            for one, other in zip(scored, alone, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), site


def test_blocks_before_the_first_edit_run_once(reference: Any) -> None:
    ran: list[int] = []
    watched = [
        reference.layout.module(layer, "attn_out").register_forward_hook(lambda *_, n=layer: ran.append(n))
        for layer in range(3)
    ]
    try:
        reference.fork_log_probs(FORKS, {})
        passes = ran.count(0)
        ran.clear()
        reference.fork_log_probs_each(FORKS, [scaled(Site(1), factor) for factor in (0.9, 1.0, 1.1)])
        assert [ran.count(layer) // passes for layer in range(3)] == [1, 1, 3]
        ran.clear()
        reference.fork_log_probs_each(FORKS, [scaled(Site(0, "resid_pre"), 0.9), scaled(Site(2), 1.1)])
        assert [ran.count(layer) // passes for layer in range(3)] == [2, 2, 2]
    finally:
        for hook in watched:
            hook.remove()


def test_blocks_are_restored_afterwards_also_after_an_error(reference: Any) -> None:
    def failing(x: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    before = reference.fork_log_probs(FORKS, {})
    forwards = [
        vars(block).get("forward") for block in reference.layout.blocks
    ]  # other backends may have set one
    with pytest.raises(ZeroDivisionError):
        reference.fork_log_probs_each(FORKS, [scaled(Site(1), 1.0), {Site(1): (failing,)}])
    assert [vars(block).get("forward") for block in reference.layout.blocks] == forwards
    after = reference.fork_log_probs(FORKS, {})
    assert all(
        torch.equal(a, b) for x, y in zip(before, after, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("windowed", ["mistral", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("window", [4, 9])
def test_a_sliding_window_changes_nothing(tiny_model: Callable[..., Any], windowed: str, window: int) -> None:
    test_scores_under_several_edits_are_bitwise_those_under_each_alone(
        wrap(tiny_model(windowed, sliding_window=window), 0), FORKS
    )


def test_blocks_after_the_first_edit_are_not_shared() -> None:
    assert n_unedited_blocks([scaled(Site(5), 1.0), scaled(Site(7), 1.0)], 30) == 6
    assert n_unedited_blocks([scaled(Site(5, "attn_out"), 1.0), {}], 30) == 5
    assert n_unedited_blocks([{}, {}], 30) == 30
