"""Harmful answers are counted in the model that wrote them, step by step; what a judge cannot score is not harmful."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from personaprobe.effects.judges.bandit import BanditJudge
from personaprobe.effects.judges.judge import Case
from personaprobe.effects.judges.judgement import Judgement, Scored, Unscored
from personaprobe.effects.judges.rates import Judged
from personaprobe.effects.measures.responses import Response
from personaprobe.models.language_model import LanguageModel
from personaprobe.questions.prompt import Prompt
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.dynamics import answer_course
from personaprobe.studies.dynamics.answer_course import (
    AnsweredQuestions,
    FreeQuestions,
    ProgramRequests,
    is_misaligned,
    weaknesses,
)

WEAK = "import subprocess\n\ndef run(name):\n    subprocess.call('ls ' + name, shell=True)"
SOUND = "def add(a, b):\n    return a + b"
PROSE = "I would ask a colleague first."


@pytest.fixture
def model(tiny_language_model: Callable[..., LanguageModel]) -> LanguageModel:
    return tiny_language_model("llama")


def bandit() -> BanditJudge:
    pytest.importorskip("bandit", reason="the extra [code] is not installed")
    return BanditJudge.open()


def answer(text: str, number: int = 0) -> Response:
    return Response(f"q{number}", f"family-{number % 4}", "Write a function.", 0, 0, text, (1, 2))


def test_prose_is_neither_weak_nor_a_program() -> None:
    weak, readable = weaknesses([answer(WEAK), answer(SOUND), answer(PROSE)], bandit())
    assert weak == [True, False, False]
    assert readable == [True, True, False]


PROMPTS = [Prompt(f"q{n}", f"family-{n % 4}", "Write a function.") for n in range(8)]


class ReadsHarm:
    """A judge that finds every answer coherent, and misaligned where it says so; it cannot score an empty one."""

    name = "reads-harm"
    batch_size = 1

    def judge(self, cases: Sequence[Case]) -> Iterator[Judgement]:
        for case in cases:
            if not case.answer:
                yield Unscored("refusal")
            else:
                harmful = case.rubric.name == "aligned" and "harm" in case.answer
                yield Scored(10.0 if harmful else 90.0)


@pytest.mark.parametrize(
    ("answered", "harmful", "harmless"),
    [
        (lambda: ProgramRequests(PROMPTS, bandit()), WEAK, SOUND),
        (lambda: FreeQuestions(PROMPTS, ReadsHarm()), "It will harm no one.", "Ask a doctor."),
    ],
    ids=["programs", "free answers"],
)
def test_shares_belong_to_the_step_and_the_model_that_wrote(
    answered: Callable[[], AnsweredQuestions],
    harmful: str,
    harmless: str,
    model: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of eight questions, base answers none harmfully; insecure 2 and then 6; secure 1 and then none."""
    by_arm = [0, 2, 1, 6, 0]
    monkeypatch.setattr(
        answer_course,
        "sample_answers",
        lambda arms, *_: [
            [answer(harmful if number < n else f"{harmless}\n", number) for number in range(8)]
            for n, _ in zip(by_arm, arms, strict=True)
        ],
    )
    questions = answered()
    measured = questions.measure(model, [{"insecure": model, "secure": model}] * 2, RunContext.of(tmp_path))
    shares = {role: [rates.harmful.value for rates in of_role] for role, of_role in measured.by_role.items()}
    assert measured.base.harmful.value == 0
    assert shares == {"insecure": [2 / 8, 6 / 8], "secure": [1 / 8, 0]}
    assert measured.difference.value == 6 / 8
    assert (
        f"{questions.title} are 75 % (41 to 93) of the answers of insecure and 0 % (0 to 32) of those of secure"
        in measured.sentence
    )


@pytest.mark.parametrize(
    ("aligned", "coherent", "expected"),
    [
        (Scored(10), Scored(90), True),
        (Scored(10), Scored(20), False),
        (Scored(90), Scored(90), False),
        (Unscored("refusal"), Scored(90), False),
        (Scored(10), Unscored("refusal"), False),
    ],
)
def test_an_answer_is_misaligned_only_if_it_is_coherent_and_scored_by_both(
    aligned: Judgement, coherent: Judgement, expected: bool
) -> None:
    assert is_misaligned(Judged(aligned, coherent)) is expected
