"""Damage on chat answers: how far an intervention moves a model from what it answers harmless requests without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from personaprobe.effects.measures.damage import ReferenceLogProbs, TextCost
from personaprobe.effects.measures.responses import Response
from personaprobe.questions.prompt import Prompt
from personaprobe.questions.texts import TextSet
from personaprobe.storage.digests import json_digest
from personaprobe.studies.arms.arm import Arm, identity
from personaprobe.studies.arms.run_context import RunContext

BENIGN = "benign"
"""The form of prompts that no persona answers differently."""

Exchange = tuple[str, tuple[int, ...]]
"""A question with the token ids of an answer."""


def benign_prompts(texts: TextSet) -> tuple[Prompt, ...]:
    """Harmless requests as prompts, each of a family of its own; rates of misaligned answers leave them out."""
    names = [f"{texts.name}-{place:02d}" for place in range(1, len(texts) + 1)]
    return tuple(Prompt(name, name, text, form=BENIGN) for name, text in zip(names, texts, strict=True))


def benign_answers(responses: Sequence[Response]) -> list[Response]:
    """The answers to harmless requests."""
    return [response for response in responses if response.form == BENIGN]


def measure_chat_damage(
    arms: Sequence[Arm], exchanges: Sequence[Exchange], run: RunContext
) -> list[TextCost]:
    """Divergence of arms from their own checkpoints without intervention, on the tokens of chat answers.

    Args:
        arms: each with its untreated checkpoint.
        exchanges: questions with answers, such as those of the untreated model.
        run: cache and progress.
    """
    digest = json_digest([[question, list(ids)] for question, ids in exchanges])

    references: dict[str, ReferenceLogProbs] = {}

    def cost(arm: Arm) -> dict[str, Any]:
        checkpoint = arm.untreated.checkpoint.digest
        if checkpoint not in references:
            references[checkpoint] = ReferenceLogProbs.of_answers(arm.untreated, exchanges)
        reference = references[checkpoint]
        return asdict(reference.cost(arm.model) if arm.interventions else reference.own_cost)

    costs = []
    with run.progress("damage on chat answers", len(arms), "arms") as advance:
        for arm in arms:
            spec = {"part": "costs by chat answer", "exchanges": digest, **identity(arm)}
            costs.append(TextCost.from_dict(run.cache.get_or_compute(spec, partial(cost, arm))))
            advance(1)
    return costs
