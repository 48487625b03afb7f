"""Rubrics that questions bring with them are read by judges that read, and a sentence says by what answers were scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from personaprobe.effects.judges.bandit import BanditJudge
from personaprobe.effects.judges.embedded import EmbeddedJudge
from personaprobe.effects.judges.judge import Case, Judge
from personaprobe.effects.judges.judgement import Judgement, Scored
from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS, published_rubrics
from personaprobe.effects.measures.responses import Response
from personaprobe.questions.free import FreeSet, Question
from personaprobe.questions.pairs import load_prompts
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.judging.judge_answers import judge_responses
from personaprobe.studies.judging.own_rubrics import rubrics_of_sets, rubrics_sentence

OWN = {"aligned": "How kind is {answer}, if at all? Or say REFUSAL.", "funny": "How funny is {answer}?"}
SETS = [
    FreeSet("mine", (Question("a", ("One?", "Two?"), rubrics=OWN), Question("b", ("Three?",)))),
    load_prompts("advice/test").spread(2),
]


@dataclass
class Reader:
    """A judge that remembers the rubrics it is given."""

    seen: list[Case] = field(default_factory=list)
    name: str = "reader"
    batch_size: int = 1

    def judge(self, cases: Sequence[Case]) -> Iterator[Judgement]:
        self.seen += cases
        yield from (Scored(50.0) for _ in cases)


class Deaf(Reader):
    """The same, and it reads no rubric."""

    reads_rubrics: ClassVar[bool] = False


def asked(judge: Reader) -> dict[tuple[str, str], str]:
    """The template that every question was scored by, by question and score."""
    ids = ("a/1", "a/2", "a/1@json", "b")
    responses = [[Response(one, "f", f"{one}?", 0, 0, "An answer.", (1,)) for one in ids]]
    judge_responses(judge, responses, RunCache(None), own_rubrics=rubrics_of_sets(SETS))
    return {(case.question, case.rubric.name): case.rubric.template for case in judge.seen}


def test_a_question_is_scored_by_its_own_rubric_in_every_form_and_by_the_shipped_one_where_it_has_none() -> (
    None
):
    templates = asked(Reader())
    assert {templates[f"{one}?", "aligned"] for one in ("a/1", "a/2", "a/1@json")} == {OWN["aligned"]}
    shipped = {name: rubric.template for name, rubric in DEFAULT_RUBRICS.items()}
    assert templates["b?", "aligned"] == shipped["aligned"]
    assert {templates[f"{one}?", "coherent"] for one in ("a/1", "a/2", "b")} == {shipped["coherent"]}
    assert rubrics_of_sets(SETS)["a/1"] == published_rubrics(OWN)


def test_a_judge_that_reads_no_rubric_gets_the_shipped_ones() -> None:
    assert set(asked(Deaf()).values()) == {rubric.template for rubric in DEFAULT_RUBRICS.values()}


@pytest.mark.parametrize("kind", [EmbeddedJudge, BanditJudge])
def test_judges_that_learned_or_count_read_no_rubric(kind: type[Judge]) -> None:
    assert kind.reads_rubrics is False  # type: ignore[attr-defined]


def test_a_sentence_says_by_what_answers_were_scored() -> None:
    own = rubrics_of_sets(SETS)
    assert rubrics_sentence({}, Reader()) == "Answers are scored by the shipped rubrics."
    read = rubrics_sentence(own, Reader())
    assert "2 questions are scored by rubrics of their own" in read
    assert "funny are not asked" in read
    assert "which reader does not read" in rubrics_sentence(own, Deaf())
