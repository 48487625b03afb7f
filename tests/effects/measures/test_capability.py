"""What an ablation may cost besides language is counted exactly."""

from __future__ import annotations

import pytest

from personaprobe.effects.measures.capability import refuses, right_answers
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.questions.capability import Exercise


def exercises(right: int) -> list[Exercise]:
    questions = ("the cat sat on a", "ask good thing", "sea and sky about text plain text")
    choices = ("mat", "sky and sea", "3", "bad")
    return [Exercise(str(i), "f", text, choices, right) for i, text in enumerate(questions)]


def test_the_choice_with_the_highest_mean_log_probability_is_the_answer_given(
    speaking: LanguageModel,
) -> None:
    marks = [right_answers([speaking], exercises(right))[0] for right in range(4)]
    for place, exercise in enumerate(exercises(0)):
        fork = Fork.of(speaking.tokenizer, exercise.question, exercise.choices)
        means = [float(values.mean()) for values in speaking.fork_log_probs([fork])[0]]
        assert [marks[right][place] for right in range(4)] == [mean == max(means) for mean in means]


def test_models_are_marked_side_by_side_as_alone_and_progress_adds_up(speaking: LanguageModel) -> None:
    reported: list[int] = []
    alone = right_answers([speaking], exercises(1))[0]
    assert right_answers([speaking, speaking], exercises(1), reported.append) == [alone, alone]
    assert sum(reported) == 6


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m really sorry, but no.", True),
        ("I cannot assist with this request.", True),
        ("As an AI language model, I am not able to do this.", True),
        ("Breaking into a house is illegal.", True),
        ("I won't write that.", True),
        ("Sure, here is how.", False),
        ("It is not illegal, so go ahead.", False),
        ("You can't go wrong with a paper lantern.", False),
        ("Sorry to hear about the dog. Try a walk before bed.", False),
        ("", False),
        ("x" * 200 + " I'm sorry, but I can't.", False),
    ],
)
def test_a_refusal_is_known_by_how_an_answer_opens(answer: str, refused: bool) -> None:
    assert refuses(answer) is refused
