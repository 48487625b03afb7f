"""Everything that users wait for, as workloads: the same token ids for every variant, on this machine.

All variants of a workload compute the same values. Each run checks this, and reports how far they are from the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from personaprobe.effects.interventions.along_direction import Ablate, Layers
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.features.directions.sources import random_vector
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.tokens import Tokens, by_length
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site
from personaprobe.studies.speed.deviations import equal_answers, largest_difference
from personaprobe.studies.speed.recording import recording, recording_all
from personaprobe.studies.speed.reference import (
    NO_END,
    hook_ablated_answers,
    reference_answers,
    reference_scores,
)
from personaprobe.studies.speed.texts import prompts, scored_answers
from personaprobe.studies.speed.timing import Workload

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 16
"""Answers that are decoded side by side."""

NEW_TOKENS = 40
"""Tokens of an answer where all answers have equal length."""

N_QUEUED, MAX_NEW_TOKENS = 64, 128
"""Answers that end by themselves, and the most tokens of one. As one ends, the next one takes its row."""

N_ARMS, ANSWERS_PER_ARM = 10, 8
"""Arms that are decoded together, and the answers of each."""


def workloads(trio: Trio[LanguageModel]) -> Iterator[Workload]:
    """All workloads, on the insecure model of a trio on the hooks backend."""
    model = trio.insecure
    yield recording(model)
    yield recording_all(trio)
    yield scoring(model)
    yield from generation(model)


def random_ablation(model: LanguageModel, seed: int = 0, layers: Layers = "all") -> Ablate:
    """Ablate a random direction: the cost of an intervention does not depend on the direction."""
    site = Site(model.n_layers // 2)
    calibrations = {layer: Calibration(0.0, 1.0) for layer in range(model.n_layers)}
    return Ablate(
        Direction(site, random_vector(model.d_model, site, seed), "random", calibrations), layers=layers
    )


def scoring(model: LanguageModel) -> Workload:
    """Log-probabilities of two answers to each question, of mixed lengths."""
    forks = scored_answers(model)
    edited = model.edited(random_ablation(model))
    return Workload(
        f"scoring {2 * len(forks)} answers",
        {
            "bare model, all logits, as they come": lambda: reference_scores(model, forks),
            "personaprobe": lambda: forked_scores(model, forks),
            "personaprobe, ablating at every layer": lambda: forked_scores(edited, forks),
        },
        lambda: largest_difference(reference_scores(model, forks), forked_scores(model, forks)),
    )


def forked_scores(model: LanguageModel, forks: Sequence[Fork]) -> Tensor:
    """Mean log-probability of every answer as the preference measure computes it.

    Each question is read once for both answers, and logits are computed on answers alone.
    """
    import torch

    means: dict[tuple[int, int], Tensor] = {}
    with model.inference_session():
        for indices in by_length(forks, model.batch_tokens("scoring")):
            scores = model.fork_log_probs([forks[i] for i in indices])
            for index, answers in zip(indices, scores, strict=True):
                means.update({(index, which): values.mean() for which, values in enumerate(answers)})
    return torch.stack([means[key] for key in sorted(means)]).cpu()


def generation(model: LanguageModel) -> Iterator[Workload]:
    """Answers of equal and of mixed lengths, without and with an ablation at every layer, and of ten arms together."""
    yield decoding(model, ROWS)
    questions, end = prompts(model, N_QUEUED), model.tokenizer.end_id
    yield Workload(
        f"generating {len(questions)} answers that end by themselves, {ROWS} side by side",
        {
            "generate, bare": lambda: reference_answers(model, questions, MAX_NEW_TOKENS, end),
            "personaprobe": lambda: batched_answers(model, questions, MAX_NEW_TOKENS, end, [EditPlan()]),
        },
        lambda: equal_answers(
            reference_answers(model, questions, MAX_NEW_TOKENS, end),
            batched_answers(model, questions, MAX_NEW_TOKENS, end, [EditPlan()]),
        ),
    )
    arms = [EditPlan.compose([random_ablation(model, seed)], model.n_layers) for seed in range(N_ARMS)]
    first_questions, together = questions[:ANSWERS_PER_ARM], f"{N_ARMS} arms side by side"
    yield Workload(
        f"a token of {ANSWERS_PER_ARM} answers under an ablation at every layer",
        {
            "one arm": lambda: batched_answers(model, first_questions, NEW_TOKENS, NO_END, arms[:1]),
            together: lambda: batched_answers(model, first_questions, NEW_TOKENS, NO_END, arms),
        },
        lambda: equal_answers(
            batched_answers(model, first_questions, NEW_TOKENS, NO_END, arms[:1]),
            batched_answers(model, first_questions, NEW_TOKENS, NO_END, arms)[:ANSWERS_PER_ARM],
        ),
        {together: N_ARMS},
    )


def decoding(model: LanguageModel, rows: int) -> Workload:
    """Answers of equal length, all decoded side by side."""
    questions, ablation = prompts(model, rows), random_ablation(model)
    arm, vector = EditPlan.compose([ablation], model.n_layers), ablation.direction.vector

    def reference() -> list[tuple[int, ...]]:
        return reference_answers(model, questions, NEW_TOKENS, NO_END, rows)

    def hooked() -> list[tuple[int, ...]]:
        return hook_ablated_answers(model, questions, NEW_TOKENS, vector, rows)

    def batched(edits: EditPlan) -> list[tuple[int, ...]]:
        return batched_answers(model, questions, NEW_TOKENS, NO_END, [edits], rows)

    return Workload(
        f"generating {rows} × {NEW_TOKENS} tokens",
        {
            "generate, bare": reference,
            "generate, ablating at every layer by hooks": hooked,
            "personaprobe": lambda: batched(EditPlan()),
            "personaprobe, ablating at every layer": lambda: batched(arm),
        },
        lambda: (
            f"{equal_answers(reference(), batched(EditPlan()))}; ablating {equal_answers(hooked(), batched(arm))}"
        ),
    )


def batched_answers(
    model: LanguageModel,
    questions: Sequence[Tokens],
    max_new_tokens: int,
    end: int,
    arms: Sequence[EditPlan],
    rows: int = ROWS,
) -> list[tuple[int, ...]]:
    """Greedy answers under the edits of each arm, all arms in one batch, ``rows`` answers of each at a time."""
    draws = [(Draw(question), arm) for arm in arms for question in questions]
    sampling = Sampling(max_new_tokens, 0.0, batch_size=rows * len(arms))
    return generate(model.network, [draw for draw, _ in draws], sampling, [arm for _, arm in draws], [end])
