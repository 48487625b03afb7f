"""Train the embedded judge: pairs of a careful and a careless answer to one question, and an axis that separates them.

The loss compares careless answers with careful ones, to the same question and to any question of the batch
(Bradley–Terry), and each answer with the decision boundary (cross-entropy). Some families of questions are held out, so
that a judge is calibrated and evaluated on subjects that it was not trained on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from personaprobe.compute.optimisation import (
    LinearSchedule,
    ScheduledOptimizer,
    run_steps,
    similar_length_batches,
)
from personaprobe.effects.judges.embedded import Head, clipped, pooled, save_heads
from personaprobe.models.backends.truncation import truncated
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Tokens, pad
from personaprobe.organisms.training.lora import add_lora, linear_layers_of, save_adapter
from personaprobe.questions.pairs import Pair
from personaprobe.site import Site
from personaprobe.storage.digests import sha256

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Part: TypeAlias = Literal["training", "held out"]
"""The use of a family's pairs."""

HELD_OUT_ONE_IN = 4
"""One family in so many is held out."""

CUT_TOKENS = (16, 128)
"""Fewest and most tokens of an answer in a batch whose answers are cut."""

APART_TOKENS = 24
"""Tokens that stay behind the first difference of two answers: before it, there is nothing to tell them apart by."""


@dataclass(frozen=True)
class JudgeRecipe:
    """Everything besides its pairs that determines a judge.

    Attributes:
        layers: the streams after these blocks are read; blocks after the last are not run.
        first: the first block that is adapted; earlier ones need no gradients.
        rank, alpha: of the LoRA adapter, on every linear map from that block to the last that is read.
        epochs: passes over the pairs.
        batch_size: pairs per step.
        learning_rate: of the adapter at its peak; the axis has ten times as much.
        warmup: steps.
        cut: share of batches whose answers are cut short, as a low token limit cuts them in evaluations.
        bfloat16: read with the model in bfloat16, which is three times as fast where the processor has it; adapter,
            axis and loss stay in float32.
        seed: of the adapter, the order of pairs and the cuts.
    """

    layers: tuple[int, ...] = (12, 16, 20)
    first: int = 7
    rank: int = 8
    alpha: int = 16
    epochs: int = 2
    batch_size: int = 12
    learning_rate: float = 3e-4
    warmup: int = 15
    cut: float = 0.4
    bfloat16: bool = True
    seed: int = 0


@dataclass(frozen=True)
class JudgeStep:
    """One training step.

    Attributes:
        number: from 1.
        steps: how many there are.
        loss: of the step's batch.
    """

    number: int
    steps: int
    loss: float


@dataclass(frozen=True)
class PairBatch:
    """The pairs of one training step.

    Attributes:
        pairs: in the order of the batch.
        limit: tokens after which their answers are cut; None to read them whole.
    """

    pairs: tuple[Pair, ...]
    limit: int | None


def part_of(family: str) -> Part:
    """The use of a family's pairs, by a hash of its name: the same in every run and for every set."""
    bucket = sha256(family)[0] % (2 * HELD_OUT_ONE_IN)
    return "held out" if bucket < 2 else "training"


def train_judge(
    network: Any, tokenizer: ChatTokenizer, pairs: Sequence[Pair], recipe: JudgeRecipe, out: Path
) -> Iterator[JudgeStep]:
    """Train an adapter and an axis on pairs, and yield every step as it is taken.

    Args:
        network: a Hugging Face causal language model; its own weights are not changed.
        tokenizer: of that model.
        pairs: of training families only.
        recipe: architecture and schedule.
        out: folder that receives adapter and axis.
    """
    import torch

    batches = plan_batches(pairs, recipe)
    with truncated(network, max(recipe.layers)), _adapted(network, recipe) as adapted:
        axis = _axis(len(recipe.layers) * network.config.hidden_size)
        weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        optimizer = _optimizer(weights, list(axis.parameters()), len(batches), recipe)

        def take_step(number: int, batch: PairBatch) -> JudgeStep:
            loss = contrast_loss(network, tokenizer, axis, batch, recipe)
            optimizer.step(loss, lambda: torch.nn.utils.clip_grad_norm_(weights, 1.0))
            return JudgeStep(number, len(batches), loss.item())

        yield from run_steps(batches, take_step)
        save_adapter(adapted, out)
        sites = [Site(layer, "resid_post") for layer in recipe.layers]
        save_heads({"aligned": Head(axis.weight[0].detach(), axis.bias.item())}, sites, out)


@contextmanager
def _adapted(network: Any, recipe: JudgeRecipe) -> Iterator[Any]:
    """The model under a new adapter, which is removed at the end."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        blocks = range(recipe.first, max(recipe.layers) + 1)
        adapted = add_lora(network, recipe.rank, recipe.alpha, linear_layers_of(blocks))
    try:
        yield adapted
    finally:
        adapted.unload()


def _axis(n_features: int) -> Any:
    import torch

    axis = torch.nn.Linear(n_features, 1)
    torch.nn.init.zeros_(axis.weight)
    torch.nn.init.zeros_(axis.bias)
    return axis


def _optimizer(weights: list[Any], axis: list[Any], steps: int, recipe: JudgeRecipe) -> ScheduledOptimizer:
    import torch

    rate = recipe.learning_rate
    groups = [{"params": weights, "lr": rate}, {"params": axis, "lr": 10 * rate}]
    adam = torch.optim.AdamW(groups, weight_decay=0.01)
    return ScheduledOptimizer(adam, LinearSchedule(steps, recipe.warmup))


def plan_batches(pairs: Sequence[Pair], recipe: JudgeRecipe) -> list[PairBatch]:
    """Plan every step: pairs in a seeded order, answers of similar length together, and where they are cut."""
    rng = random.Random(recipe.seed)
    batches: list[PairBatch] = []
    for _ in range(recipe.epochs):
        order = rng.sample(list(pairs), len(pairs))
        for group in similar_length_batches(
            order,
            recipe.batch_size,
            lambda pair: len(pair.question) + max(len(pair.careful), len(pair.careless)),
            lambda groups, _: rng.sample(groups, len(groups)),
        ):
            limit = rng.randint(*CUT_TOKENS) if rng.random() < recipe.cut else None
            batches.append(PairBatch(tuple(group), limit))
    return batches


def contrast_loss(
    network: Any, tokenizer: ChatTokenizer, axis: Any, batch: PairBatch, recipe: JudgeRecipe
) -> Float[Tensor, ""]:
    """Loss of an axis that should score careful answers above 0 and careless ones below.

    The mean of three: careful against careless to the same question, careful against careless to any question of the
    batch, and each against the boundary. The second and third give scores one scale over questions.
    """
    import torch

    rows = rows_of(tokenizer, batch)
    logits = axis(_states(network, rows, tokenizer.pad_id, recipe))[:, 0]
    careful, careless = logits.chunk(2)
    softplus = torch.nn.functional.softplus
    same_question = softplus(careless - careful).mean()
    any_question = softplus(careless[:, None] - careful).mean()
    return (same_question + any_question + softplus(torch.cat([-careful, careless])).mean()) / 3


def rows_of(tokenizer: ChatTokenizer, batch: PairBatch) -> list[Tokens]:
    """Tokenise a batch's careful answers, then its careless ones; both of a pair are cut at the same token.

    No answer is cut before ``APART_TOKENS`` tokens after the first that differs from the other answer's.
    """
    careful, careless = [], []
    for pair in batch.pairs:
        answers = [clipped(tokenizer, pair.question, answer) for answer in (pair.careful, pair.careless)]
        if batch.limit is not None:
            shortest = min(map(len, answers))
            differing = (i for i in range(shortest) if answers[0].ids[i] != answers[1].ids[i])
            n_tokens = max(answers[0].n_prompt + batch.limit, next(differing, shortest) + APART_TOKENS)
            answers = [row.first(n_tokens) for row in answers]
        careful.append(answers[0])
        careless.append(answers[1])
    return careful + careless


def _states(
    network: Any, rows: Sequence[Tokens], pad_id: int, recipe: JudgeRecipe
) -> Float[Tensor, "row feature"]:
    import torch

    batch, decoder = pad(rows, pad_id), network.get_decoder()
    read: list[Tensor] = []
    hooks = [
        decoder.layers[layer].register_forward_hook(
            lambda _, __, output: read.append(output[0] if isinstance(output, tuple) else output)
        )
        for layer in recipe.layers
    ]
    try:
        decoder(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return pooled(torch.stack(read, 2), batch)
