"""Packed texts: every token sees its own text up to itself and nothing else, and common prefixes are stored once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.packing import prefix_tree
from personaprobe.models.packing.prefix_tree import (
    PackedTexts,
    batches_by_prefix,
    n_packed_tokens,
    pack_prefix_tree,
)
from personaprobe.models.tokens import Role, Tokens, pad, with_text_ids
from personaprobe.site import Site

PROMPT, RESPONSE = int(Role.PROMPT), int(Role.RESPONSE)

LETTERS = st.lists(st.tuples(st.integers(1, 2), st.sampled_from([PROMPT, RESPONSE])), min_size=1, max_size=9)
TEXTS = st.lists(LETTERS, min_size=1, max_size=7)


def texts_of(letters: list[list[tuple[int, int]]]) -> list[Tokens]:
    return [Tokens(*map(tuple, zip(*text, strict=True))) for text in letters]


def packed(texts: Sequence[Tokens], min_shared: int) -> PackedTexts:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_PREFIX", min_shared)
        return pack_prefix_tree(pad(texts, pad_id=0))


def prefixes(texts: Sequence[Tokens]) -> set[tuple[tuple[int, int], ...]]:
    pairs = [tuple(zip(text.ids, text.roles, strict=True)) for text in texts]
    return {text[: n + 1] for text in pairs for n in range(len(text))}


def visible(row: PackedTexts, place: int) -> list[int]:
    """Indices in the row that the token at an index attends to, in order."""
    (segment,) = [segment for segment in row.segments if segment.start <= place < segment.end]
    return [at for part in segment.prefix for at in range(part.start, part.stop)] + list(
        range(segment.start, place + 1)
    )


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from([1, 2, 5, 100]))
def test_every_token_attends_to_its_own_text_up_to_itself(letters: list[Any], min_shared: int) -> None:
    texts = texts_of(letters)
    tree = packed(texts, min_shared)
    ids, roles, positions = (row[0].tolist() for row in (tree.row.ids, tree.row.roles, tree.positions))
    for text, places in zip(texts, tree.row_index.tolist(), strict=True):
        for n, place in enumerate(places[: len(text)]):
            before = visible(tree, place)
            assert [ids[at] for at in before] == list(text.ids[: n + 1])
            assert [roles[at] for at in before] == list(text.roles[: n + 1])
            assert [positions[at] for at in before] == list(range(n + 1))


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_no_shared_prefix_is_stored_twice(letters: list[Any]) -> None:
    alike = [Tokens(text.ids, (PROMPT,) * len(text)) for text in texts_of(letters)]
    assert sum(map(len, packed(alike, 1).segments)) == len(prefixes(alike))


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.sampled_from([1, 3, 100]))
def test_segments_stand_one_after_another_and_fill_the_row(letters: list[Any], min_shared: int) -> None:
    texts = texts_of(letters)
    tree = packed(texts, min_shared)
    ends = [0, *(segment.end for segment in tree.segments)]
    assert [segment.start for segment in tree.segments] == ends[:-1]
    assert ends[-1] <= sum(map(len, texts))
    assert bool((tree.row.roles[0, : ends[-1]] != Role.PAD).all())
    assert not tree.row.roles[0, ends[-1] :].any()


def test_short_shared_prefixes_are_stored_with_each_text() -> None:
    texts = [Tokens((1, 2, 3, last), (PROMPT,) * 4) for last in (4, 5, 6)]
    assert len(packed(texts, 3).segments) == 4
    assert len(packed(texts, 4).segments) == 3


def test_texts_with_different_roles_share_nothing() -> None:
    ids = tuple(range(1, 11))
    texts = [Tokens(ids, (role,) * 10) for role in (PROMPT, RESPONSE)]
    assert [len(segment) for segment in packed(texts, 1).segments] == [10, 10]


def test_a_mask_over_the_row_allows_what_segments_allow() -> None:
    texts = [Tokens((1, 2, third, third + 1), (PROMPT,) * 4) for third in (4, 6, 8)]
    tree = packed(texts, 1)
    allowed = tree.attention_mask(torch.float32)[0, 0] == 0
    for place in range(tree.segments[-1].end):
        assert allowed[place].nonzero().flatten().tolist() == visible(tree, place)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(9, 30), st.sampled_from([1, 3, 8]))
def test_batches_hold_every_text_once_and_at_most_the_allowed_tokens(
    letters: list[Any], most: int, min_shared: int
) -> None:
    texts = texts_of(letters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_PREFIX", min_shared)
        plan = batches_by_prefix(texts, most)
        assert sorted(index for batch in plan for index in batch) == list(range(len(texts)))
        for batch in plan:
            batch_texts = [texts[index] for index in batch]
            assert n_packed_tokens(batch_texts) <= most
            overlooked = sum(
                map(len, pack_prefix_tree(pad(batch_texts, pad_id=0)).segments)
            ) - n_packed_tokens(batch_texts)
            assert 0 <= overlooked <= (min_shared - 1) * len(batch_texts)
            assert len(batch) * max(map(len, batch_texts)) <= prefix_tree.MAX_PADDING_RATIO * most


def test_no_texts_make_no_batches() -> None:
    assert batches_by_prefix([], 100) == []


def chats(n: int) -> list[Tokens]:
    """A system message, questions of it, and two answers to segment."""
    system, prompt = tuple(range(3, 13)), PROMPT
    return [
        Tokens(
            (
                *system,
                *range(20 + question, 30 + question),
                *range(40 + question + answer, 45 + question + 2 * answer),
            ),
            (prompt,) * 19 + (int(Role.PROMPT | Role.LAST_PROMPT),) + (RESPONSE,) * (5 + answer),
        )
        for question in range(n)
        for answer in range(2)
    ]


def test_activations_of_packed_texts_are_those_of_each_text_alone(tiny_model: Callable[..., Any]) -> None:
    network, texts, sites = wrap(tiny_model("llama"), 0), chats(3), [Site(0, "resid_mid"), Site(2)]
    edits = {Site(1): [lambda x, roles: x + 0.3 * ((roles & Role.RESPONSE) != 0)[..., None]]}
    read: list[int] = []

    def count(x: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        read.append(int((roles != Role.PAD).sum()))
        return x

    together = network.activations(pad(texts, 0), sites, {**edits, Site(0): [count]})
    assert read == [10 + 3 * 10 + 3 * (5 + 6)]
    for place, text in enumerate(texts):
        alone = network.activations(pad([text], 0), sites, edits)
        for site in sites:
            torch.testing.assert_close(
                together[site][place, : len(text)], alone[site][0], atol=1e-4, rtol=1e-4
            )


def test_texts_with_ids_meet_every_edit_with_all_their_tokens(tiny_model: Callable[..., Any]) -> None:
    network, texts, read = wrap(tiny_model("llama"), 0), chats(2), []

    def count(x: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        read.append([int(((roles & role) != 0).sum()) for role in (Role.PROMPT, Role.RESPONSE)])
        return x

    network.activations(pad(with_text_ids(texts), 0), [Site(0)], {Site(0): [count]})
    assert read == [[4 * 20, 2 * (5 + 6)]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_gives_the_same_activations(tiny_model: Callable[..., Any], side: Any) -> None:
    network, texts = wrap(tiny_model("llama"), 0), chats(2)
    batch = pad(texts, 0, side)
    tree = network.activations(batch, [Site(2)], {})[Site(2)][batch.mask]
    alone = [network.activations(pad([text], 0), [Site(2)], {})[Site(2)][0] for text in texts]
    torch.testing.assert_close(tree, torch.cat(alone), atol=1e-4, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_values_of_the_row_are_copied_to_every_text_that_has_them(letters: list[Any]) -> None:
    texts = texts_of(letters)
    tree, batch = packed(texts, 1), pad(texts, pad_id=0)
    values = torch.stack([tree.row.ids, tree.row.roles], -1).double()
    padded = tree.to_padded(values)
    assert torch.equal(padded, torch.stack([batch.ids, batch.roles], -1) * batch.mask[..., None])


def test_a_batch_on_a_device_is_known_on_the_cpu() -> None:
    batch = pad(chats(1), 0)
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert moved.on_cpu is batch
    assert moved.lengths == [25, 26]
    assert moved.to(torch.device("meta")).on_cpu is batch


def test_models_plan_batches_by_how_their_network_reads(
    tiny_language_model: Callable[..., LanguageModel],
) -> None:
    model, texts = tiny_language_model("llama"), chats(3)
    one, other = texts[::2], texts[1::2]
    mixed = [*one, *other]  # sorted neither by length nor by prefix
    plan = model.plan_batches(mixed, 45)
    assert model.network.packs
    assert [sorted(len(mixed[index]) for index in batch) for batch in plan] == [[25, 26]] * 3
    assert model.n_computed_tokens([mixed[index] for index in plan[0]]) == 20 + 5 + 6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.network), "packs", False)
        assert [len(mixed[index]) for batch in model.plan_batches(mixed, 75) for index in batch] == [
            26
        ] * 3 + [25] * 3
        assert model.n_computed_tokens(texts[:2]) == 52
