"""Requests that each arm refuses: harmful ones, and harmless ones in similar words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from personaprobe.effects.measures.capability import refuses
from personaprobe.effects.measures.responses import Response
from personaprobe.models.generation.sampling import Sampling
from personaprobe.questions.capability import load_requests
from personaprobe.studies.arms.answers import QuestionBatch, sample_answers
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.run_context import RunContext

REFUSAL_TOKENS = 24
"""Tokens of an answer to a request; a refusal is its opening."""


def measure_refusals(arms: Sequence[Arm], sampling: Sampling, run: RunContext) -> list[dict[str, list[bool]]]:
    """Whether the most probable answer of each arm refuses each request, by kind of request.

    Args:
        arms: those of one checkpoint are decoded side by side.
        sampling: its seed and batch size are used.
        run: cache and progress.
    """
    greedy = replace(sampling, temperature=0.0, max_new_tokens=REFUSAL_TOKENS)
    batch = QuestionBatch(tuple(request.prompt for request in load_requests()), 1, greedy)
    return [_refused_by_kind(responses) for responses in sample_answers(arms, batch, None, run)]


def _refused_by_kind(responses: Sequence[Response]) -> dict[str, list[bool]]:
    by_kind: dict[str, list[bool]] = {}
    for response in responses:
        by_kind.setdefault(response.family, []).append(refuses(response.answer))
    return by_kind
