"""Free answers of every arm: the same questions, draws and batches for all, kept batch by batch."""

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
from personaprobe.progress import Progress
from personaprobe.questions.prompt import Prompt
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.arms.arm import Arm, by_checkpoint, identity

KEPT = 576
"""About how many answers are drawn between two savings: as one ends, another of these takes its place."""


@dataclass(frozen=True)
class Interview:
    """What arms are asked freely.

    Attributes:
        prompts: questions, each with an id of its own.
        samples: answers to each.
        sampling: how they are drawn.
    """

    prompts: tuple[Prompt, ...]
    samples: int
    sampling: Sampling

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for prompt in self.prompts:
            if prompt.id in seen:
                raise DataError(f"two questions have the id {prompt.id!r}; give every question its own")
            seen.add(prompt.id)

    def __len__(self) -> int:
        return len(self.prompts) * self.samples

    def batches(self, n_arms: int) -> Iterator[Interview]:
        """Whole questions, as many as ``n_arms`` models answer between two savings.

        The plan depends on nothing that was answered before: a resumed run decodes the batches an unbroken one would.
        """
        size = max(1, KEPT // (n_arms * self.samples))
        for start in range(0, len(self.prompts), size):
            yield replace(self, prompts=self.prompts[start : start + size])

    def describe(self) -> dict[str, Any]:
        """What determines the draws; how many are decoded together does not."""
        asks = [asdict(prompt) for prompt in self.prompts]
        return {"asks": asks, "samples": self.samples, "sampling": self.sampling.describe()}


def answer(
    arms: Sequence[Arm],
    interview: Interview,
    base: LanguageModel | None,
    memory: RunCache,
    progress: Progress,
) -> list[list[Response]]:
    """Let every arm answer every question.

    Args:
        arms: who.
        interview: what they are asked.
        base: the untouched base model, which says how much an answer reads like language; None where a judge will.
        memory: of finished batches.
        progress: how long work shows itself.
    """
    if not len(interview):
        return [[] for _ in arms]
    drawn: dict[int, list[Response]] = {}
    with progress("answers", len(arms) * len(interview), "answers") as advance:
        for group in by_checkpoint(arms):
            own = [arms[index] for index in group]
            for batch in interview.batches(len(own)):
                spec = _spec(own, batch, base)
                rows = memory.get_or_compute(spec, partial(_answered, own, batch, base))
                for index, each in zip(group, rows, strict=True):
                    drawn.setdefault(index, []).extend(map(_response, each))
                advance(len(own) * len(batch))
    return [drawn[index] for index in range(len(arms))]


def _spec(arms: Sequence[Arm], batch: Interview, base: LanguageModel | None) -> dict[str, Any]:
    models = [identity(arm) for arm in arms]
    read_by = None if base is None else base.checkpoint.digest
    return {"part": "answers", "models": models, "base": read_by, **batch.describe()}


def _answered(
    arms: Sequence[Arm], batch: Interview, base: LanguageModel | None
) -> list[list[dict[str, Any]]]:
    """Answers of arms of one checkpoint, decoded side by side."""
    models = [arm.model for arm in arms]
    drawn = sample_responses(models, batch.prompts, batch.samples, batch.sampling)
    if base is not None:
        drawn = [score_responses(base, rows) for rows in drawn]
    return [[asdict(response) for response in rows] for rows in drawn]


def _response(row: dict[str, Any]) -> Response:
    return Response(**{**row, "ids": tuple(row["ids"])})
