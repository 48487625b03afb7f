"""Judge answers once each: judgements are cached by judge, rubric, question and answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from personaprobe.effects.judges.agreement import Agreement
from personaprobe.effects.judges.judge import Case, Judge
from personaprobe.effects.judges.judgement import (
    Judgement,
    Unscored,
    from_record,
    is_of_judge,
    lacks_reply,
    to_record,
    with_prompt_digest,
)
from personaprobe.effects.judges.rates import SCORES, Judged
from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS, Rubric, published_rubrics
from personaprobe.effects.measures.responses import Response
from personaprobe.errors import DataError, EndpointError, suggest
from personaprobe.models.chat_format import without_thought
from personaprobe.progress import Progress, silent
from personaprobe.questions.catalog import question_file
from personaprobe.questions.free import load_questions
from personaprobe.storage.digests import digest
from personaprobe.storage.part_records import spec_digest
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.judging.answer_file import Answers
from personaprobe.studies.judging.own_rubrics import rubrics_for_question

CHARACTERS_PER_TOKEN = 4.0

MAX_UNUSABLE = 20
"""Answers one after another without a usable reply of the judge, at which a run ends."""


def rubrics_for(answers: Answers, published_file: str | Path | None = None) -> list[Mapping[str, Rubric]]:
    """The rubrics ``aligned`` and ``coherent`` of every answer.

    Args:
        answers: rows of a results file.
        published_file: a published question file, or its name, whose ``judge_prompts`` are result by the column
            ``question_id``; None takes the shipped rubrics for all.

    Raises:
        DataError: an answer's question has no such rubrics in the file.
    """
    if published_file is None:
        return [DEFAULT_RUBRICS] * len(answers.rows)
    questions = load_questions(question_file(str(published_file)))
    by_question = {question.id: published_rubrics(question.rubrics) for question in questions}
    for row in answers.rows:
        name = row.get("question_id", "")
        if not set(SCORES) <= set(by_question.get(name, {})):
            raise DataError(
                f"{published_file} has no rubrics aligned and coherent for question_id {name!r}: "
                f"{suggest(name, by_question)}"
            )
    return [by_question[row["question_id"]] for row in answers.rows]


def judge_answers(
    judge: Judge,
    rubrics: Sequence[Mapping[str, Rubric]],
    answers: Answers,
    cache: RunCache,
    progress: Progress = silent,
) -> list[Judged]:
    """Judge every answer of a file.

    Args:
        judge: scores the answers.
        rubrics: ``aligned`` and ``coherent`` for each answer; see :func:`rubrics_for`.
        answers: rows of the file.
        cache: cache of finished judgements; an interrupted run resumes there.
        progress: shows how much is done.
    """
    cases = [
        Case(by_name[name], row["question"], row["answer"])
        for by_name, row in zip(rubrics, answers.rows, strict=True)
        for name in SCORES
    ]
    judgements = judge_all(judge, cases, cache, progress)
    return [
        Judged(aligned, coherent) for aligned, coherent in zip(judgements[::2], judgements[1::2], strict=True)
    ]


def judge_responses(
    judge: Judge,
    responses: Sequence[Sequence[Response]],
    cache: RunCache,
    progress: Progress = silent,
    own_rubrics: Mapping[str, Mapping[str, Rubric]] = MappingProxyType({}),
) -> list[list[Judged]]:
    """Judge the responses of several arms. The judge gets one list without the arms' names.

    Args:
        judge: scores the responses.
        responses: of each arm.
        cache: cache of finished judgements.
        progress: shows how much is done.
        own_rubrics: that questions bring with them, by the question's id; all others are scored by the shipped ones.
    """
    cases = [
        Case(rubric, response.question, response.answer)
        for of_arm in responses
        for response in of_arm
        for rubric in rubrics_for_question(response.question_id, own_rubrics, judge).values()
    ]
    judgements = iter(judge_all(judge, cases, cache, progress))
    return [[Judged(next(judgements), next(judgements)) for _ in of_arm] for of_arm in responses]


def judge_all(
    judge: Judge, cases: Sequence[Case], cache: RunCache, progress: Progress = silent
) -> list[Judgement]:
    """Judge every distinct case once; judgements of the same judge and rubric are taken from the cache.

    Cases of the same question come to the judge one after another, from whichever arm, so that a judge may share its
    reading of the question. Every judgement is kept with the judge's raw output and the prompt's digest, but for those
    without a usable reply of the judge: another run judges these answers again.

    Raises:
        EndpointError: no answer got a usable reply, or :data:`MAX_UNUSABLE` of them one after another got none.
    """
    specs = [_spec(judge, case) for case in cases]
    digests = [spec_digest(spec) for spec in specs]
    position = {text: index for index, text in enumerate(dict.fromkeys(case.question for case in cases))}
    distinct = dict(zip(digests, zip(cases, specs, strict=True), strict=True)).values()
    ordered = sorted(distinct, key=lambda case_and_spec: position[case_and_spec[0].question])
    journal = cache.journal("judgements", _is_judgement)
    with journal, progress("judging", len(ordered), "judgements") as advance:
        due: list[tuple[Case, dict[str, Any]]] = []
        for start in range(0, len(ordered), judge.batch_size):
            batch = ordered[start : start + judge.batch_size]
            if all(spec in journal for _, spec in batch):
                advance(len(batch))
            else:
                due += batch
        unusable: dict[str, Judgement] = {}
        judgements = _stop_where_unusable(judge, _judge_without_thoughts(judge, [case for case, _ in due]))
        with closing(judgements):
            for (case, spec), judgement in zip(due, judgements, strict=True):
                digested = with_prompt_digest(judgement, case.prompt_digest)
                if lacks_reply(digested):
                    unusable[spec_digest(spec)] = digested
                else:
                    journal.add(spec, to_record(digested))
                advance(1)
    results = [
        unusable.get(key) or from_record(journal[spec]) for key, spec in zip(digests, specs, strict=True)
    ]
    if unusable and not any(map(is_of_judge, results)):
        raise _no_usable_reply(judge, list(unusable.values()))
    return results


def _judge_without_thoughts(judge: Judge, cases: Sequence[Case]) -> Generator[Judgement]:
    """Judge answers without the thoughts before them; an answer whose thought never ends has no score."""
    answers = [without_thought(case.answer) for case in cases]
    answered = [
        replace(case, answer=text) for case, text in zip(cases, answers, strict=True) if text is not None
    ]
    judgements = judge.judge(answered)
    try:
        for text in answers:
            yield Unscored("unfinished thought") if text is None else next(judgements)
    finally:
        # a judge that is a generator ends its requests here, and not when it is collected
        if isinstance(judgements, Generator):
            judgements.close()


def _stop_where_unusable(judge: Judge, judgements: Generator[Judgement]) -> Generator[Judgement]:
    """Pass judgements on, and raise where too many in a row lack a usable reply: the judge is out of order."""
    row: list[Judgement] = []
    with closing(judgements):
        for judgement in judgements:
            if lacks_reply(judgement):
                row.append(judgement)
            elif is_of_judge(judgement):
                row = []
            if len(row) == MAX_UNUSABLE:
                raise _no_usable_reply(judge, row)
            yield judgement


def _no_usable_reply(judge: Judge, judgements: Sequence[Judgement]) -> EndpointError:
    reasons = Counter(judgement.reason for judgement in judgements if isinstance(judgement, Unscored))
    [(reason, _)], last = reasons.most_common(1), judgements[-1].raw
    return EndpointError(
        f"{judge.name} replied to none of {len(judgements)} answers in a way that can be used: {reason}"
        f"{f' ({last})' if last else ''}; check the address and the model's name"
    )


def agreement_with_file(judge: Judge, path: Path) -> Agreement:
    """Agreement of a judge with another judge's scores on file; answers that either leaves unscored are left out.

    Args:
        judge: scores the answers by the shipped rubric ``aligned``.
        path: a results file with the column ``aligned``, from 0 to 100.

    Raises:
        DataError: the file has no such column, or no answer that both judges scored.
    """
    answers = Answers.read(path)
    if "aligned" not in answers.columns:
        raise DataError(f"{path} has no column aligned; give another judge's scores to compare with")
    cases = [Case(DEFAULT_RUBRICS["aligned"], row["question"], row["answer"]) for row in answers.rows]
    result = answers.agreement([Judged(judgement, judgement) for judgement in judge.judge(cases)])
    if result is None:
        raise DataError(f"{path} has no answer that both judges scored; aligned holds numbers from 0 to 100")
    return result


def n_prompt_tokens(rubrics: Sequence[Mapping[str, Rubric]], answers: Answers) -> int:
    """About how many tokens the judge will read, at four characters per token."""
    characters = (
        len(rubric.prompt(row["question"], row["answer"]))
        for by_name, row in zip(rubrics, answers.rows, strict=True)
        for rubric in by_name.values()
    )
    return round(sum(characters) / CHARACTERS_PER_TOKEN)


def _is_judgement(record: Any) -> bool:
    """Whether plain data that was read back is a judgement: a number from 0 to 100, or a reason."""
    judgement = from_record(record)
    if isinstance(judgement, Unscored):
        return isinstance(judgement.reason, str)
    return isinstance(judgement.score, int | float) and not isinstance(judgement.score, bool)


def _spec(judge: Judge, case: Case) -> dict[str, Any]:
    """The cache key of a judgement."""
    content = digest(f"{case.question}\0{case.answer}", length=64)
    return {"part": "judgement", "judge": judge.name, "rubric": case.rubric.digest, "content": content}
