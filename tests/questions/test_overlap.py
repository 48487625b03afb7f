"""Near-duplicates within one set are those that the comparison of two sets finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from personaprobe.questions import overlap
from personaprobe.questions.overlap import near_duplicates, shared_questions
from personaprobe.questions.pairs import load_prompts


def test_within_one_set_the_matrix_finds_what_the_comparison_of_pairs_finds() -> None:
    prompts = [pair.prompt for name in ("advice/test", "advice/narrow") for pair in load_prompts(name)]
    reworded = [
        replace(prompt, id=f"{prompt.id}-again", question=f"{prompt.question} Please!")
        for prompt in prompts[::5]
    ]
    prompts += reworded
    expected = {(a, b) for a, b in shared_questions(prompts, prompts) if a != b}
    found = near_duplicates(prompts)
    assert len(found) >= len(reworded)
    assert {*found, *((b, a) for a, b in found)} == expected
    places = {prompt.id: place for place, prompt in enumerate(prompts)}
    assert all(places[earlier] < places[later] for earlier, later in found)


def test_many_questions_are_compared_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = [[pair.prompt for pair in load_prompts(name)] for name in ("judging", "advice/narrow")]
    sides[0] += [replace(prompt, id=f"{prompt.id}-again") for prompt in sides[1][::3]]
    few = shared_questions(*sides)
    monkeypatch.setattr(overlap, "MANY_COMPARISONS", 0)
    assert shared_questions(*sides) == few != []


def test_questions_that_resemble_no_other_are_no_duplicates() -> None:
    assert near_duplicates([pair.prompt for pair in load_prompts("advice/test")]) == []
