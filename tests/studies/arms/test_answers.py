"""Free answers: the same draws for all arms, and a run that was cut short ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personaprobe.errors import DataError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.questions.prompt import Prompt
from personaprobe.studies.arms import answers
from personaprobe.studies.arms.answers import QuestionBatch, sample_answers
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.run_context import RunContext

WORDS = ["what", "do", "you", "think", "about", "the", "sea", "and", "a", "cat", "please", "answer", "short"]
PROMPTS = tuple(Prompt(str(i), "f", " ".join(WORDS[i : i + 4])) for i in range(5))


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer]) -> LanguageModel:
    words = word_tokenizer(WORDS)
    return LanguageModel(Checkpoint("tiny"), wrap(tiny_model("llama"), words.pad_id), words)


@pytest.fixture(scope="module")
def arms(model: LanguageModel) -> list[Arm]:
    return [Arm("insecure", "insecure", model), Arm("again", "ablated", model)]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWERS_PER_PART", 8)


def questions(n_samples: int = 2) -> QuestionBatch:
    return QuestionBatch(PROMPTS, n_samples, Sampling(max_new_tokens=5, seed=3))


def test_equal_arms_give_equal_answers_in_the_order_of_the_questions(
    arms: list[Arm], model: LanguageModel
) -> None:
    one, other = sample_answers(arms, questions(), model, RunContext())
    assert one == other
    assert [(r.question_id, r.sample) for r in one] == [
        (prompt.id, s) for prompt in PROMPTS for s in range(2)
    ]


def test_more_samples_keep_the_first_ones(arms: list[Arm], model: LanguageModel) -> None:
    first_samples = sample_answers(arms[:1], questions(1), model, RunContext())[0]
    many = sample_answers(arms[:1], questions(3), model, RunContext())[0]
    assert [r.ids for r in first_samples] == [r.ids for r in many if r.sample == 0]


def test_a_system_message_is_read(word_tokenizer: Callable[..., ChatTokenizer]) -> None:
    tokenizer = word_tokenizer(WORDS)
    assert tokenizer.prompt("the sea", "answer short").ids != tokenizer.prompt("the sea").ids


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_that_was_cut_short_ends_with_the_same_answers(
    stop: int, arms: list[Arm], model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sample_answers(arms, questions(), model, RunContext.of(tmp_path / "whole"))
    original, calls = answers.sample_responses, []

    def failing(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(answers, "sample_responses", failing)
    with pytest.raises(KeyboardInterrupt):
        sample_answers(arms, questions(), model, RunContext.of(tmp_path / "cut"))
    assert sample_answers(arms, questions(), model, RunContext.of(tmp_path / "cut")) == whole
    assert len(calls) == 1 + len(list(questions().parts(2)))
    cached, expected = (
        {f.name: f.read_bytes() for f in (tmp_path / n / "parts").iterdir()} for n in ("cut", "whole")
    )
    assert cached == expected


def test_progress_counts_every_answer_kept_or_drawn(
    arms: list[Arm], model: LanguageModel, tmp_path: Path
) -> None:
    from contextlib import contextmanager

    counted: list[int] = []

    @contextmanager
    def counting(what: str, total: int, unit: str) -> Any:
        counted.append(-total)
        yield counted.append

    for _ in range(2):
        sample_answers(arms, questions(), model, RunContext.of(tmp_path, counting))
    assert sum(counted) == 0


def test_two_questions_may_not_share_an_id() -> None:
    with pytest.raises(DataError, match="two questions have the id 'x'"):
        QuestionBatch((Prompt("x", "f", "a"), Prompt("x", "f", "b")), 1, Sampling())
