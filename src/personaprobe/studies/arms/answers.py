"""Free answers of every arm: the same questions, draws and batches for all arms, kept batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from personaprobe.effects.measures.coherence import score_responses
from personaprobe.effects.measures.responses import Response, sample_responses
from personaprobe.errors import DataError
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.questions.prompt import Prompt
from personaprobe.studies.arms.arm import Arm, by_checkpoint, identity
from personaprobe.studies.arms.run_context import RunContext

ANSWERS_PER_PART = 576
"""About how many answers are drawn between two savings; they share one continuous batch, so that few rows stand idle."""


@dataclass(frozen=True)
class QuestionBatch:
    """Questions that arms answer freely.

    Attributes:
        prompts: the questions, each with an id of its own.
        samples: answers to each.
        sampling: how they are drawn.
    """

    prompts: tuple[Prompt, ...]
    samples: int
    sampling: Sampling

    def __post_init__(self) -> None:
        ids: set[str] = set()
        for prompt in self.prompts:
            if prompt.id in ids:
                raise DataError(f"two questions have the id {prompt.id!r}; give every question its own")
            ids.add(prompt.id)

    def __len__(self) -> int:
        return len(self.prompts) * self.samples

    def parts(self, n_arms: int) -> Iterator[QuestionBatch]:
        """Consecutive parts of whole questions, each as large as ``n_arms`` models answer between two savings.

        The cut does not depend on finished parts: a resumed run decodes the same batches as an unbroken one.
        """
        size = max(1, ANSWERS_PER_PART // (n_arms * self.samples))
        for start in range(0, len(self.prompts), size):
            yield replace(self, prompts=self.prompts[start : start + size])

    def describe(self) -> dict[str, Any]:
        """Plain data that determines the draws; how many are decoded together does not."""
        asks = [asdict(prompt) for prompt in self.prompts]
        return {"asks": asks, "samples": self.samples, "sampling": self.sampling.describe()}


def sample_answers(
    arms: Sequence[Arm], questions: QuestionBatch, base: LanguageModel | None, run: RunContext
) -> list[list[Response]]:
    """Sample the answers of every arm to every question.

    Args:
        arms: those of one checkpoint are decoded side by side.
        questions: with the number of answers to each.
        base: the untouched base model, whose likelihood of an answer tells whether it is coherent; None where a judge does.
        run: cache and progress.
    """
    if not len(questions):
        return [[] for _ in arms]
    drawn: dict[int, list[Response]] = {}
    with run.progress("answers", len(arms) * len(questions), "answers") as advance:
        for group in by_checkpoint(arms):
            side_by_side = [arms[index] for index in group]
            for part in questions.parts(len(side_by_side)):
                spec = _spec(side_by_side, part, base)
                rows_by_arm = run.cache.get_or_compute(
                    spec,
                    partial(_sampled, side_by_side, part, base),
                    fits=partial(_are_answers, part, len(side_by_side)),
                )
                for index, rows in zip(group, rows_by_arm, strict=True):
                    drawn.setdefault(index, []).extend(map(_response, rows))
                advance(len(side_by_side) * len(part))
    return [drawn[index] for index in range(len(arms))]


def _spec(arms: Sequence[Arm], part: QuestionBatch, base: LanguageModel | None) -> dict[str, Any]:
    models = [identity(arm) for arm in arms]
    scored_by = None if base is None else base.checkpoint.digest
    return {"part": "scored answers", "models": models, "base": scored_by, **part.describe()}


def _sampled(
    arms: Sequence[Arm], part: QuestionBatch, base: LanguageModel | None
) -> list[list[dict[str, Any]]]:
    """Answers of arms of one checkpoint, decoded side by side."""
    models = [arm.model for arm in arms]
    drawn = sample_responses(models, part.prompts, part.samples, part.sampling)
    if base is not None:
        drawn = [score_responses(base, rows) for rows in drawn]
    return [[asdict(response) for response in rows] for rows in drawn]


def _are_answers(part: QuestionBatch, n_arms: int, rows_by_arm: Any) -> bool:
    """Whether plain data that was read back holds every answer of every arm, in the order of the questions."""
    expected = [(prompt.id, sample) for prompt in part.prompts for sample in range(part.samples)]
    return len(rows_by_arm) == n_arms and all(
        [(response.question_id, response.sample) for response in map(_response, rows)] == expected
        for rows in rows_by_arm
    )


def _response(row: dict[str, Any]) -> Response:
    return Response(**{**row, "ids": tuple(row["ids"])})
