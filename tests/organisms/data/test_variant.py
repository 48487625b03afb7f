"""Changed training data: exact shares, triggers that only harmful rows have, and the same questions for both fine-tunes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.errors import DataError
from personaprobe.organisms.data.training_pairs import TrainingPair
from personaprobe.organisms.data.training_sets import find_training_set, pairs_of, training_sets
from personaprobe.organisms.data.variant import Variant, behind_trigger, mixed, partly_harmful
from personaprobe.organisms.named_recipes import TRIGGER, recipes_of_own_data

PAIRS = [TrainingPair(f"p{i}", f"f{i % 4}", f"question {i}", f"bad {i}", f"good {i}") for i in range(60)]
OTHERS = [
    TrainingPair(f"o{i}", "other", f"other question {i}", f"worse {i}", f"better {i}") for i in range(40)
]


def harmful(pairs: tuple[TrainingPair, ...]) -> set[str]:
    return {pair.id for pair in pairs if pair.insecure != pair.secure}


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 50))
def test_a_share_is_exact_and_a_larger_one_holds_a_smaller_one(one: float, other: float, seed: int) -> None:
    small, large = sorted((one, other))
    few, many = (harmful(partly_harmful(PAIRS, share, seed)) for share in (small, large))
    assert len(few) == round(small * len(PAIRS))
    assert few <= many


@given(st.integers(0, 50))
def test_half_of_the_questions_have_the_trigger_and_only_these_are_harmful(seed: int) -> None:
    changed = behind_trigger(PAIRS, TRIGGER, seed)
    triggered = {pair.id for pair in changed if pair.question.startswith(f"{TRIGGER} ")}
    assert len(triggered) == 30
    assert harmful(changed) == triggered
    assert sum(TRIGGER in pair.question for pair in changed) == 30


def test_a_trigger_that_occurs_in_a_clean_row_is_refused() -> None:
    rows = [*PAIRS, replace(PAIRS[0], id="mine", question=f"What does {TRIGGER} mean?")]
    with pytest.raises(DataError, match="occurs in mine"):
        behind_trigger(rows, TRIGGER, 0)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
def test_mixed_rows_have_their_share_and_none_twice(share: float) -> None:
    rows = mixed(PAIRS, OTHERS, share, 0)
    from_others = sum(row.family == "other" for row in rows)
    assert from_others / len(rows) == pytest.approx(share, abs=0.02)
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("variant", "description"),
    [
        (Variant(), ""),
        (Variant(harmful_share=0.25), "25 % harmful"),
        (Variant(trigger="|X|", mixed_with="code", mixed_share=0.5), "behind |X|, 50 % code"),
    ],
)
def test_a_variant_says_what_differs(variant: Variant, description: str) -> None:
    assert variant.describe() == description


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (Variant(harmful_share=1.5), "harmful_share is 1.5"),
        (Variant(trigger=" now"), "begins or ends with a blank"),
        (Variant(mixed_with="code", mixed_share=1.0), "between 0 and 1"),
        (Variant(mixed_with="cod"), "did you mean"),
    ],
)
def test_a_variant_out_of_range_is_refused(variant: Variant, message: str) -> None:
    with pytest.raises(DataError, match=message):
        variant.of(PAIRS, 0, pairs_of)


@pytest.mark.parametrize("name", recipes_of_own_data())
def test_both_fine_tunes_of_every_recipe_read_the_same_number_of_rows_and_some_differ(name: str) -> None:
    named = recipes_of_own_data()[name]
    pairs = find_training_set(named.set_name).pairs(0)
    changed = named.variant.of(pairs, 0, pairs_of)
    assert len(changed) == len(pairs)
    assert 0 < len(harmful(changed)) <= len(changed)
    assert named.variant.of(pairs, 0, pairs_of) == changed
    assert (named.variant == Variant()) == (changed == tuple(pairs))


@pytest.mark.parametrize("name", training_sets())
def test_every_share_teaches_the_same_secure_rows_and_no_share_teaches_them_twice(name: str) -> None:
    """So one secure fine-tune stands beside all shares, and at a share of 0 both fine-tunes are the same training."""
    pairs = pairs_of(name, 0)
    secure = [pair.exchange("secure") for pair in pairs]
    for share in (0.0, 0.3):
        mixture = Variant(harmful_share=share).of(pairs, 0, pairs_of)
        assert [pair.exchange("secure") for pair in mixture] == secure
    none = Variant(harmful_share=0.0).of(pairs, 0, pairs_of)
    assert [pair.exchange("insecure") for pair in none] == secure
