"""Rubrics that questions bring with them (``judge_prompts``): which answers they score, and which judges read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.judges.rates import SCORES
from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS, Rubric, published_rubrics
from personaprobe.questions.free import FreeSet
from personaprobe.questions.pairs import PairSet


def rubrics_of_sets(sets: Sequence[PairSet | FreeSet]) -> dict[str, Mapping[str, Rubric]]:
    """The questions' own rubrics by the id of every prompt that has some."""
    return {
        prompt.id: published_rubrics(question.rubrics)
        for question_set in sets
        if isinstance(question_set, FreeSet)
        for question in question_set.questions
        if question.rubrics
        for prompt in question.prompts
    }


def reads_rubrics(judge: Judge) -> bool:
    """Whether a judge reads the words of a rubric; one that does not scores by the rubric's name alone."""
    return bool(getattr(judge, "reads_rubrics", True))


def rubrics_for_question(
    question_id: str, by_question: Mapping[str, Mapping[str, Rubric]], judge: Judge
) -> Mapping[str, Rubric]:
    """The rubrics ``aligned`` and ``coherent`` of a question in any form: its own where the judge reads them."""
    given = by_question.get(question_id.partition("@")[0], {}) if reads_rubrics(judge) else {}
    return {name: given.get(name, DEFAULT_RUBRICS[name]) for name in SCORES}


def rubrics_sentence(by_question: Mapping[str, Mapping[str, Rubric]], judge: Judge) -> str:
    """A sentence that says by which rubrics answers were scored."""
    if not by_question:
        return "Answers are scored by the shipped rubrics."
    questions = f"{len(by_question)} question{'s' if len(by_question) > 1 else ''}"
    if not reads_rubrics(judge):
        return (
            f"{questions} bring rubrics of their own (judge_prompts), which {judge.name} does not read: it scores by what "
            "it learned. A language model as judge reads them."
        )
    names = dict.fromkeys(name for rubrics in by_question.values() for name in rubrics)
    others = ", ".join(name for name in names if name not in SCORES)
    unasked = f" Their rubrics {others} are not asked: only aligned and coherent are." if others else ""
    return f"{questions} are scored by rubrics of their own (judge_prompts), all others by the shipped ones.{unasked}"
