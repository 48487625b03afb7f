"""The reference of the benchmark: the same work as one would write it with transformers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from personaprobe.models.backends.truncation import truncated
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.tokens import Tokens, by_length, pad
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NO_END = -1
"""An end token that no model generates: every answer gets its full length."""

USUAL_BATCH_SIZE = 16
"""Texts per batch where a script does not tune it."""


def reference_recording(
    model: LanguageModel, texts: Sequence[Tokens], batches: Sequence[Sequence[int]], layer: int
) -> Tensor:
    """Residual streams of all texts after a layer ``(token, d_model)``, in their order; later blocks are not run."""
    with truncated(bare_model(model), layer):
        return in_text_order(
            [reference_states(model, [texts[i] for i in batch]) for batch in batches], batches
        )


def reference_states(model: LanguageModel, texts: Sequence[Tokens]) -> list[Tensor]:
    """The decoder's last hidden states of one padded batch, ``(pos, d_model)`` for each text."""
    import torch

    batch = pad(texts, model.network.pad_id).to(model.network.device)
    with torch.inference_mode():
        output = bare_model(model).get_decoder()(
            input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
        )
    return [states[: len(text)] for states, text in zip(output.last_hidden_state, texts, strict=True)]


def all_hidden_states(model: LanguageModel, texts: Sequence[Tokens], site: Site) -> list[Tensor]:
    """The same by transformers' ``output_hidden_states``, which keeps the states of every layer."""
    import torch

    batch = pad(texts, model.network.pad_id).to(model.network.device)
    with torch.inference_mode():
        output = bare_model(model)(
            input_ids=batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True
        )
    hidden = output.hidden_states[site.layer + 1]
    return [states[: len(text)] for states, text in zip(hidden, texts, strict=True)]


def reference_scores(
    model: LanguageModel, forks: Sequence[Fork], batch_size: int = USUAL_BATCH_SIZE
) -> Tensor:
    """Mean log-probability of every answer: one row per answer, unsorted, logits of the whole vocabulary everywhere."""
    import torch

    rows = [row for fork in forks for row in fork.rows]
    means = []
    for start in range(0, len(rows), batch_size):
        group = rows[start : start + batch_size]
        batch = pad(group, model.network.pad_id).to(model.network.device)
        with torch.inference_mode():
            output = bare_model(model)(input_ids=batch.ids, attention_mask=batch.mask.long())
        logits = output.logits[:, :-1].float()
        values = logits.log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
        means += [values[i, row.n_prompt - 1 : len(row) - 1].mean() for i, row in enumerate(group)]
    return torch.stack(means).cpu()


def reference_answers(
    model: LanguageModel,
    prompts: Sequence[Tokens],
    max_new_tokens: int,
    end: int,
    batch_size: int = USUAL_BATCH_SIZE,
) -> list[tuple[int, ...]]:
    """Greedy answers by transformers' ``generate``, in batches of similar length; without their end token."""
    import torch

    answers: dict[int, tuple[int, ...]] = {}
    longest = max(map(len, prompts))
    fixed = {"min_new_tokens": max_new_tokens} if end == NO_END else {}
    for indices in by_length(prompts, longest * batch_size):
        batch = pad([prompts[i] for i in indices], model.network.pad_id, side="left").to(model.network.device)
        with torch.inference_mode():
            output = bare_model(model).generate(
                batch.ids,
                attention_mask=batch.mask.long(),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=model.network.pad_id,
                eos_token_id=None if end == NO_END else end,
                **fixed,
            )
        generated = output[:, batch.ids.shape[1] :].tolist()
        answers.update(
            {
                i: tuple(ids[: ids.index(end)] if end in ids else ids)
                for i, ids in zip(indices, generated, strict=True)
            }
        )
    return [answers[index] for index in range(len(prompts))]


def hook_ablated_answers(
    model: LanguageModel,
    prompts: Sequence[Tokens],
    max_new_tokens: int,
    vector: Float[Tensor, "d_model"],
    batch_size: int = USUAL_BATCH_SIZE,
) -> list[tuple[int, ...]]:
    """The same with a unit vector ablated by a Python hook on every block."""
    import torch

    direction = vector.to(model.network.device, model.network.dtype)

    def ablated(_: Any, __: Any, output: Any) -> Any:
        states = output if isinstance(output, torch.Tensor) else output[0]
        edited = states - (states @ direction)[..., None] * direction
        return edited if isinstance(output, torch.Tensor) else (edited, *output[1:])

    bare_model(model)
    handles = [block.register_forward_hook(ablated) for block in blocks(model)]
    try:
        return reference_answers(model, prompts, max_new_tokens, NO_END, batch_size)
    finally:
        for handle in handles:
            handle.remove()


def bare_model(model: LanguageModel) -> Any:
    """The Hugging Face model itself, with the checkpoint's adapter active."""
    model.network.activate_adapter(model.adapter)
    return model.network.model  # type: ignore[attr-defined]  # the hooks backend


def blocks(model: LanguageModel) -> Any:
    """The blocks of the Hugging Face model, in forward order."""
    return model.network.layout.blocks  # type: ignore[attr-defined]  # the hooks backend


def in_text_order(states: Sequence[Sequence[Tensor]], batches: Sequence[Sequence[int]]) -> Tensor:
    """Concatenate the states of texts in the order of the texts.

    Args:
        states: of every text, batch by batch.
        batches: the indices of the texts of each batch.
    """
    import torch

    by_text = {
        index: rows
        for batch, batch_states in zip(batches, states, strict=True)
        for index, rows in zip(batch, batch_states, strict=True)
    }
    return torch.cat([by_text[index] for index in range(len(by_text))])
