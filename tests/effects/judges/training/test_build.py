"""Families are split for good, and a judge is built only from enough pairs."""

from __future__ import annotations

import pytest

from personaprobe.effects.judges.training.build import split
from personaprobe.effects.judges.training.train import part_of
from personaprobe.errors import DataError
from personaprobe.questions.pairs import Pair, PairSet, load_prompts

PAIRS = load_prompts("judging").pairs


def test_no_family_serves_two_purposes_and_few_pairs_are_refused() -> None:
    parts = split([PairSet("all", PAIRS)])
    families = [{pair.family for pair in pairs} for pairs in parts.values()]
    assert len(set.union(*families)) == sum(map(len, families))
    assert sum(map(len, parts.values())) == len(PAIRS)
    assert all(part_of(pair.family) == part for part, pairs in parts.items() for pair in pairs)
    with pytest.raises(DataError, match="too few"):
        split([PairSet("few", tuple(Pair(str(i), "one", f"{i}?", "a", "b") for i in range(50)))])
