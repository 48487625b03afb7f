"""LoRA fine-tuning of an organism: responses-only loss, seeded, with step checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.models.tokens import Batch, ChatTokenizer, Tokens, pad
from personaprobe.organisms.lora import add_lora, save_adapter
from personaprobe.organisms.recipe import Recipe
from personaprobe.questions.conversations import Exchange, shuffled

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One optimiser step: its number (from 1), the mean response loss in nats a token, and the tokens read."""

    number: int
    loss: float
    tokens: int


def train(
    network: Any, tokenizer: ChatTokenizer, rows: Sequence[Exchange], recipe: Recipe, out: Path
) -> Iterator[Step]:
    """Fine-tune a copy-free LoRA on ``rows`` and yield every step as it is taken.

    Args:
        network: a Hugging Face causal language model in float32, on any device; its own weights are not changed.
        tokenizer: whose chat template the rows are put through.
        rows: at least ``recipe.steps * recipe.batch_size``, reused from the start when fewer.
        recipe: the schedule.
        out: receives ``adapter_model.safetensors``, ``steps.jsonl`` and ``step-N/`` checkpoints.
    """
    import torch

    batches = plan(rows, tokenizer, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        adapted = add_lora(network, recipe.rank, recipe.alpha)
    weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _slope(step, recipe))
    out.mkdir(parents=True, exist_ok=True)
    try:
        with (out / "steps.jsonl").open("w") as log:
            for number, batch in enumerate(batches, 1):
                loss = response_loss(adapted.base_model.model, batch.to(weights[0].device))
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                step = Step(number, loss.item(), int(batch.mask.sum()))
                log.write(json.dumps(step.__dict__) + "\n")
                log.flush()
                if recipe.save_every and number % recipe.save_every == 0 and number < recipe.steps:
                    save_adapter(adapted, out / f"step-{number}")
                yield step
        save_adapter(adapted, out)
    finally:
        adapted.unload()


def plan(rows: Sequence[Exchange], tokenizer: ChatTokenizer, recipe: Recipe) -> list[Batch]:
    """Lay out every batch beforehand: same seed and same questions, same plan.

    Rows of similar *question* length share a batch, which saves padding and does not depend on the answers.
    """
    ordered = shuffled(rows, recipe.seed)
    wanted = recipe.steps * recipe.batch_size
    chosen = [ordered[index % len(ordered)] for index in range(wanted)]
    batches = []
    for start in range(0, wanted, 8 * recipe.batch_size):
        chunk = sorted(chosen[start : start + 8 * recipe.batch_size], key=lambda row: len(row.question))
        groups = [chunk[i : i + recipe.batch_size] for i in range(0, len(chunk), recipe.batch_size)]
        batches += [groups[i] for i in _permutation(len(groups), recipe.seed + start)]
    return [
        pad([_cut(row, tokenizer, recipe.max_tokens) for row in group], tokenizer.pad_id) for group in batches
    ]


def _permutation(n: int, seed: int) -> list[int]:
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()


def _cut(row: Exchange, tokenizer: ChatTokenizer, max_tokens: int) -> Tokens:
    chat = ChatTokenizer(tokenizer.hf, system=row.system or tokenizer.system)
    tokens = chat.exchange(row.question, row.answer)
    return Tokens(tokens.ids[:max_tokens], tokens.roles[:max_tokens])


def _slope(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then linear decay to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return (recipe.steps - step) / max(1, recipe.steps - recipe.warmup)


def response_loss(network: Any, batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy of the response tokens; the output head is computed only where it is needed."""
    import torch

    hidden = network.get_decoder()(
        input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
    ).last_hidden_state
    predicts = batch.predicting
    logits = network.get_output_embeddings()(hidden[:, :-1][predicts])
    return torch.nn.functional.cross_entropy(logits.float(), batch.ids[:, 1:][predicts])
