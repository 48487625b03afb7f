"""How the embedded judge is made: pairs of answers that differ in substance and not in style, and axes that tell them apart.

Careless answers are compared with careful ones, to the same question and to any (Bradley–Terry), and each with the boundary
(cross-entropy). Some families of questions are held out, so that scale and numbers of a judge are those of subjects that
it did not learn from.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from personaprobe.effects.judges.embedded import Head, clipped, pooled, save_heads
from personaprobe.models.backends.truncation import cut
from personaprobe.models.tokens import ChatTokenizer, Tokens, pad
from personaprobe.organisms.lora import add_lora, save_adapter
from personaprobe.questions.pairs import Pair

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Part: TypeAlias = Literal["training", "held out"]
"""What a family's pairs are for."""

ONE_IN = 4
"""One family in so many is held out."""

CUTS = (12, 96)
"""Tokens, fewest and most, after which answers are cut where they are cut."""


@dataclass(frozen=True)
class JudgeRecipe:
    """What determines a judge beside its pairs.

    Attributes:
        layer: the stream after this block is read; later blocks are not run.
        rank, alpha: of the adapter, on every linear map up to there.
        epochs: times every pair is read.
        batch_size: pairs a step.
        learning_rate: of the adapter at its peak; the axis learns ten times as fast.
        warmup: steps.
        cut: share of batches whose answers end where their tokens ran out, as short evaluations leave them.
        seed: of the adapter, the order of pairs and the cuts.
    """

    layer: int = 20
    rank: int = 8
    alpha: int = 16
    epochs: int = 2
    batch_size: int = 12
    learning_rate: float = 3e-4
    warmup: int = 15
    cut: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class JudgeStep:
    """One step: its number (from 1) of how many, and its loss."""

    number: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Lesson:
    """Pairs that are read in one step.

    Attributes:
        pairs: which.
        limit: tokens after which their answers are cut; None where they are read whole.
    """

    pairs: tuple[Pair, ...]
    limit: int | None


def part_of(family: str) -> Part:
    """What a family's pairs are for; a property of its name."""
    drawn = hashlib.sha256(family.encode()).digest()[0] % (2 * ONE_IN)
    return "held out" if drawn < 2 else "training"


def train_judge(
    network: Any, tokenizer: ChatTokenizer, pairs: Sequence[Pair], recipe: JudgeRecipe, out: Path
) -> Iterator[JudgeStep]:
    """Train an adapter and an axis on pairs, and yield every step as it is taken.

    Args:
        network: a Hugging Face causal language model in float32; its own weights are not changed.
        tokenizer: of that model.
        pairs: to learn from, of training families alone.
        recipe: the schedule.
        out: receives the adapter.
    """
    import torch

    lessons = plan(pairs, recipe)
    with cut(network, recipe.layer), _adapted(network, recipe) as adapted:
        axis = _axis(network.config.hidden_size)
        weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        optimizer, slope = _optimizer(weights, list(axis.parameters()), len(lessons), recipe)
        for number, lesson in enumerate(lessons, 1):
            loss = contrast_loss(network, tokenizer, axis, lesson)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            slope.step()
            optimizer.zero_grad()
            yield JudgeStep(number, len(lessons), loss.item())
        save_adapter(adapted, out)
        save_heads({"aligned": Head(axis.weight[0].detach(), axis.bias.item())}, recipe.layer, out)


@contextmanager
def _adapted(network: Any, recipe: JudgeRecipe) -> Iterator[Any]:
    """The model under a fresh adapter, which is taken off again."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        adapted = add_lora(network, recipe.rank, recipe.alpha)
    try:
        yield adapted
    finally:
        adapted.unload()


def _axis(d_model: int) -> Any:
    import torch

    axis = torch.nn.Linear(d_model, 1)
    torch.nn.init.zeros_(axis.weight)
    torch.nn.init.zeros_(axis.bias)
    return axis


def _optimizer(weights: list[Any], axis: list[Any], steps: int, recipe: JudgeRecipe) -> tuple[Any, Any]:
    import torch

    rate = recipe.learning_rate
    groups = [{"params": weights, "lr": rate}, {"params": axis, "lr": 10 * rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _slope(step, steps, recipe))


def plan(pairs: Sequence[Pair], recipe: JudgeRecipe) -> list[Lesson]:
    """Every step beforehand: pairs in a seeded order, answers of like length together, and where they are cut."""
    rng = random.Random(recipe.seed)
    lessons: list[Lesson] = []
    size = recipe.batch_size
    for _ in range(recipe.epochs):
        order = rng.sample(list(pairs), len(pairs))
        for start in range(0, len(order), 8 * size):
            chunk = sorted(order[start : start + 8 * size], key=lambda pair: len(pair.careful))
            groups = [chunk[i : i + size] for i in range(0, len(chunk), size)]
            for group in rng.sample(groups, len(groups)):
                limit = rng.randint(*CUTS) if rng.random() < recipe.cut else None
                lessons.append(Lesson(tuple(group), limit))
    return lessons


def contrast_loss(network: Any, tokenizer: ChatTokenizer, axis: Any, lesson: Lesson) -> Float[Tensor, ""]:
    """How badly an axis tells careful answers from careless ones.

    The mean of three: to the same question, to any question of the lesson, and from the boundary. The second and third
    give scores one scale over questions.
    """
    import torch

    rows = [clipped(tokenizer, pair.question, pair.careful, lesson.limit) for pair in lesson.pairs]
    rows += [clipped(tokenizer, pair.question, pair.careless, lesson.limit) for pair in lesson.pairs]
    scores = axis(_states(network, rows, tokenizer.pad_id))[:, 0]
    good, bad = scores.chunk(2)
    soft = torch.nn.functional.softplus
    to_one, to_any = soft(bad - good).mean(), soft(bad[:, None] - good).mean()
    return (to_one + to_any + soft(torch.cat([-good, bad])).mean()) / 3


def _states(network: Any, rows: Sequence[Tokens], pad_id: int) -> Float[Tensor, "row d_model"]:
    batch = pad(rows, pad_id)
    hidden = network.get_decoder()(
        input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
    ).last_hidden_state
    return pooled(hidden, batch)


def _slope(step: int, steps: int, recipe: JudgeRecipe) -> float:
    """Linear warm-up, then linear decay to zero."""
    return min((step + 1) / recipe.warmup, (steps - step) / max(1, steps - recipe.warmup))
