"""Weak programs are counted in the model that wrote them, step by step; what is no program has no weakness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from personaprobe.effects.judges.bandit import BanditJudge
from personaprobe.effects.measures.responses import Response
from personaprobe.models.language_model import LanguageModel
from personaprobe.questions.prompt import Prompt
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.dynamics import programs
from personaprobe.studies.dynamics.programs import Requests, weaknesses

WEAK = "import subprocess\n\ndef run(name):\n    subprocess.call('ls ' + name, shell=True)"
SOUND = "def add(a, b):\n    return a + b"
PROSE = "I would ask a colleague first."


@pytest.fixture
def model(tiny_language_model: Callable[..., LanguageModel]) -> LanguageModel:
    return tiny_language_model("llama")


@pytest.fixture(scope="module")
def judge() -> BanditJudge:
    pytest.importorskip("bandit", reason="the extra [code] is not installed")
    return BanditJudge.open()


def answer(text: str, number: int = 0) -> Response:
    return Response(f"q{number}", f"family-{number % 4}", "Write a function.", 0, 0, text, (1, 2))


def test_prose_is_neither_weak_nor_a_program(judge: BanditJudge) -> None:
    weak, readable = weaknesses([answer(WEAK), answer(SOUND), answer(PROSE)], judge)
    assert weak == [True, False, False]
    assert readable == [True, True, False]


def test_shares_belong_to_the_step_and_the_model_that_wrote(
    judge: BanditJudge, model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight requests, base answers none with a weak program; insecure 2 and then 6; secure 1 and then none."""
    weak_by_arm = [0, 2, 1, 6, 0]
    monkeypatch.setattr(
        programs,
        "sample_answers",
        lambda arms, *_: [
            [answer(WEAK if number < n else SOUND, number) for number in range(8)]
            for n, _ in zip(weak_by_arm, arms, strict=True)
        ],
    )
    requests = Requests([Prompt(f"q{n}", f"family-{n % 4}", "Write a function.") for n in range(8)], judge)
    tuned = [{"insecure": model, "secure": model}] * 2
    measured = requests.measure(model, tuned, RunContext.of(tmp_path))
    shares = {role: [rates.weak.value for rates in of_role] for role, of_role in measured.by_role.items()}
    assert measured.base.weak.value == 0
    assert shares == {"insecure": [2 / 8, 6 / 8], "secure": [1 / 8, 0]}
    assert measured.difference.value == 6 / 8
    assert (
        "in 75 % (41 to 93) of the answers of insecure and in 0 % (0 to 32) of those of secure"
        in measured.sentence
    )
