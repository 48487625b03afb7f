"""LoRA fine-tuning of an organism: loss on responses only, a seeded order, and checkpoints between steps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.compute.optimisation import (
    LinearSchedule,
    ScheduledOptimizer,
    run_steps,
    similar_length_batches,
)
from personaprobe.errors import DataError, shortened
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Batch, Role, Tokens, pad
from personaprobe.organisms.lora import add_lora, save_adapter
from personaprobe.organisms.recipe import Recipe
from personaprobe.questions.conversations import Exchange, shuffled

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step: its number (from 1), the mean response loss in nats per token, and the tokens read."""

    number: int
    loss: float
    tokens: int


def train_adapter(
    network: Any, tokenizer: ChatTokenizer, rows: Sequence[Exchange], recipe: Recipe, out: Path
) -> Iterator[TrainingStep]:
    """Fine-tune a LoRA on conversations, and yield every step as it is taken.

    Args:
        network: a Hugging Face causal language model in float32, on any device; its own weights are not changed.
        tokenizer: with the chat template.
        rows: questions with responses; reused from the start if there are fewer than the recipe needs.
        recipe: hyperparameters.
        out: receives ``adapter_model.safetensors``, ``steps.jsonl`` and ``step-N/`` checkpoints.

    Raises:
        DataError: a row that is cut before its answer (see :func:`rows_with_answers`), or a loss that is not finite; the
            step checkpoints stay, and no adapter is written.
    """
    import torch

    batches = training_batches(rows, tokenizer, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        adapted = add_lora(network, recipe.rank, recipe.alpha)
    weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    optimizer = ScheduledOptimizer(adam, LinearSchedule(recipe.steps, recipe.warmup))

    def take_step(number: int, batch: Batch) -> TrainingStep:
        loss = response_loss(adapted.base_model.model, batch.to(weights[0].device))
        if not math.isfinite(loss.item()):
            raise DataError(
                f"the loss of step {number} is {loss.item()}: training diverged; give a lower --learning-rate, or a longer "
                "warmup"
            )
        optimizer.step(loss, lambda: torch.nn.utils.clip_grad_norm_(weights, 1.0))
        return TrainingStep(number, loss.item(), int(batch.mask.sum()))

    def checkpoint(number: int, step: TrainingStep) -> None:
        if recipe.save_every and number % recipe.save_every == 0 and number < recipe.steps:
            save_adapter(adapted, out / f"step-{number}")

    out.mkdir(parents=True, exist_ok=True)
    try:
        with (out / "steps.jsonl").open("w") as lines:

            def log(number: int, step: TrainingStep) -> None:
                lines.write(json.dumps(asdict(step)) + "\n")
                lines.flush()

            yield from run_steps(batches, take_step, [log, checkpoint])
        save_adapter(adapted, out)
    finally:
        adapted.unload()


def training_batches(rows: Sequence[Exchange], tokenizer: ChatTokenizer, recipe: Recipe) -> list[Batch]:
    """Tokenise every batch beforehand. The same seed and the same questions give the same order.

    Batches hold questions of similar length. The length of the responses is not used, so that two organisms on the same
    questions train in the same order.
    """
    ordered = shuffled(rows, recipe.seed)
    chosen = [ordered[index % len(ordered)] for index in range(recipe.steps * recipe.batch_size)]

    def shuffle(batches: list[list[Exchange]], start: int) -> list[list[Exchange]]:
        return [batches[index] for index in _permutation(len(batches), recipe.seed + start)]

    batches = similar_length_batches(chosen, recipe.batch_size, lambda row: len(row.question), shuffle)
    return [
        pad([_learnable(row, tokenizer, recipe.max_tokens) for row in batch], tokenizer.pad_id)
        for batch in batches
    ]


@dataclass(frozen=True)
class LearnableRows:
    """The rows of which something is learned, and how many were cut.

    Attributes:
        rows: with at least one token of the answer.
        dropped: rows whose question alone is as long as a row may be.
        cut: rows that learn a part of their answer only, without the token that closes it.
        supervised_tokens: tokens that are learned in one pass over the rows.
    """

    rows: tuple[Exchange, ...]
    dropped: int
    cut: int
    supervised_tokens: int

    def describe(self) -> dict[str, int]:
        """The counts as plain data."""
        return {
            "rows_dropped": self.dropped,
            "rows_cut": self.cut,
            "supervised_tokens": self.supervised_tokens,
        }


def rows_with_answers(rows: Sequence[Exchange], tokenizer: ChatTokenizer, max_tokens: int) -> LearnableRows:
    """Drop the rows that are cut before their answer begins: they teach nothing, and a batch of them has no loss.

    Whether a row is dropped depends on its question alone, so that two organisms on the same questions drop the same.

    Raises:
        DataError: no row is left.
    """
    usable, cut, supervised, shortest = [], 0, 0, 0
    for row in rows:
        tokens = tokenizer.exchange(row.question, row.answer, row.system)
        n_answer = _n_supervised(tokens.first(max_tokens))
        if n_answer:
            usable.append(row)
            supervised += n_answer
            cut += len(tokens) > max_tokens
        shortest = min(shortest or tokens.n_prompt, tokens.n_prompt)
    if not usable:
        raise DataError(
            f"--max-tokens {max_tokens} leaves no token of any answer: the shortest question takes {shortest} tokens with "
            "its chat template; give more"
        )
    return LearnableRows(tuple(usable), len(rows) - len(usable), cut, supervised)


def _permutation(n: int, seed: int) -> list[int]:
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()


def _learnable(row: Exchange, tokenizer: ChatTokenizer, max_tokens: int) -> Tokens:
    """A conversation as tokens, truncated."""
    tokens = tokenizer.exchange(row.question, row.answer, row.system).first(max_tokens)
    if not _n_supervised(tokens):
        raise DataError(
            f"the question {shortened(row.question)} alone has {max_tokens} tokens or more; leave it out, or give more "
            "--max-tokens"
        )
    return tokens


def _n_supervised(tokens: Tokens) -> int:
    """Tokens that are learned: those of the answer."""
    return sum(1 for role in tokens.roles[1:] if role & Role.RESPONSE)


def response_loss(network: Any, batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy of the response tokens, nats; the unembedding is computed at those positions only."""
    import torch

    hidden = network.get_decoder()(
        input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
    ).last_hidden_state
    predicts = batch.predicting
    logits = network.get_output_embeddings()(hidden[:, :-1][predicts])
    return torch.nn.functional.cross_entropy(logits.float(), batch.ids[:, 1:][predicts])
