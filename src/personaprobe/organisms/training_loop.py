"""LoRA fine-tuning of an organism: loss on responses only, a seeded order, and checkpoints between steps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.compute.optimisation import (
    LinearSchedule,
    ScheduledOptimizer,
    run_steps,
    similar_length_batches,
)
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Batch, Tokens, pad
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
        pad([_tokenised(row, tokenizer, recipe.max_tokens) for row in batch], tokenizer.pad_id)
        for batch in batches
    ]


def _permutation(n: int, seed: int) -> list[int]:
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()


def _tokenised(row: Exchange, tokenizer: ChatTokenizer, max_tokens: int) -> Tokens:
    """A conversation as tokens, truncated."""
    chat = replace(tokenizer, system=row.system or tokenizer.system)
    tokens = chat.exchange(row.question, row.answer)
    return Tokens(tokens.ids[:max_tokens], tokens.roles[:max_tokens])


def response_loss(network: Any, batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy of the response tokens, nats; the unembedding is computed at those positions only."""
    import torch

    hidden = network.get_decoder()(
        input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
    ).last_hidden_state
    predicts = batch.predicting
    logits = network.get_output_embeddings()(hidden[:, :-1][predicts])
    return torch.nn.functional.cross_entropy(logits.float(), batch.ids[:, 1:][predicts])
