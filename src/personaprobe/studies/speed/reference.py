"""What the bare model does, as one would write it with transformers: the reference of the bench."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from personaprobe.models.backends.truncation import cut
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.tokens import Tokens, by_length, pad
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NO_END = -1
"""No token ends an answer."""

AT_A_TIME = 16
"""Texts that are read, or answered, at a time where one does not think about it."""


def bare_recording(
    model: LanguageModel, texts: Sequence[Tokens], plan: Sequence[Sequence[int]], layer: int
) -> Tensor:
    """States of all texts ``(token, d_model)``, in their order, by the bare model cut behind a layer."""
    with cut(active_model(model), layer):
        return in_order([bare_states(model, [texts[i] for i in batch]) for batch in plan], plan)


def bare_states(model: LanguageModel, texts: Sequence[Tokens]) -> list[Tensor]:
    """What comes out of the bare blocks, as one would write it."""
    import torch

    batch = pad(texts, model.network.pad_id).to(model.network.device)
    with torch.inference_mode():
        states = active_model(model).get_decoder()(
            input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
        )
    return [own[: len(text)] for own, text in zip(states.last_hidden_state, texts, strict=True)]


def hidden_states(model: LanguageModel, texts: Sequence[Tokens], site: Site) -> list[Tensor]:
    """The same by transformers' own option, which keeps every layer."""
    import torch

    batch = pad(texts, model.network.pad_id).to(model.network.device)
    with torch.inference_mode():
        told = active_model(model)(
            input_ids=batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True
        )
    return [own[: len(text)] for own, text in zip(told.hidden_states[site.layer + 1], texts, strict=True)]


def bare_scores(model: LanguageModel, forks: Sequence[Fork], batch_size: int = AT_A_TIME) -> Tensor:
    """Separate rows in the order in which they come, logits of the whole vocabulary everywhere: what one writes first."""
    import torch

    rows = [row for one in forks for row in one.rows]
    means = []
    for start in range(0, len(rows), batch_size):
        group = rows[start : start + batch_size]
        batch = pad(group, model.network.pad_id).to(model.network.device)
        with torch.inference_mode():
            logits = (
                active_model(model)(input_ids=batch.ids, attention_mask=batch.mask.long())
                .logits[:, :-1]
                .float()
            )
        values = logits.log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
        means += [values[i, row.n_prompt - 1 : len(row) - 1].mean() for i, row in enumerate(group)]
    return torch.stack(means).cpu()


def bare_answers(
    model: LanguageModel, prompts: Sequence[Tokens], most: int, end: int, at_once: int = AT_A_TIME
) -> list[tuple[int, ...]]:
    """The same by transformers' ``generate``, in batches of like length."""
    import torch

    answers: dict[int, tuple[int, ...]] = {}
    widest = max(map(len, prompts))
    fixed = {"min_new_tokens": most} if end == NO_END else {}
    for indices in by_length(prompts, widest * at_once):
        batch = pad([prompts[i] for i in indices], model.network.pad_id, side="left").to(model.network.device)
        with torch.inference_mode():
            said = (
                active_model(model)
                .generate(
                    batch.ids,
                    attention_mask=batch.mask.long(),
                    max_new_tokens=most,
                    do_sample=False,
                    pad_token_id=model.network.pad_id,
                    eos_token_id=None if end == NO_END else end,
                    **fixed,
                )[:, batch.ids.shape[1] :]
                .tolist()
            )
        answers.update(
            {
                i: tuple(own[: own.index(end)] if end in own else own)
                for i, own in zip(indices, said, strict=True)
            }
        )
    return [answers[index] for index in range(len(prompts))]


def hooked_answers(
    model: LanguageModel,
    prompts: Sequence[Tokens],
    most: int,
    vector: Float[Tensor, "d_model"],
    at_once: int = AT_A_TIME,
) -> list[tuple[int, ...]]:
    """The same with a unit vector ablated by a hook in Python on every block."""
    import torch

    direction = vector.to(model.network.device, model.network.dtype)

    def ablated(_: Any, __: Any, output: Any) -> Any:
        states = output if isinstance(output, torch.Tensor) else output[0]
        edited = states - (states @ direction)[..., None] * direction
        return edited if isinstance(output, torch.Tensor) else (edited, *output[1:])

    active_model(model)
    handles = [block.register_forward_hook(ablated) for block in blocks(model)]
    try:
        return bare_answers(model, prompts, most, NO_END, at_once)
    finally:
        for handle in handles:
            handle.remove()


def active_model(model: LanguageModel) -> Any:
    """The bare model under the checkpoint's adapter, whatever was worn before."""
    model.network.activate_adapter(model.adapter)
    return model.network.model  # type: ignore[attr-defined]  # the hooks backend


def blocks(model: LanguageModel) -> Any:
    """The bare model's blocks, in forward order."""
    return model.network.layout.blocks  # type: ignore[attr-defined]  # the hooks backend


def in_order(read: Sequence[Sequence[Tensor]], plan: Sequence[Sequence[int]]) -> Tensor:
    """Texts' states one after another, in the order of the texts."""
    import torch

    found = {
        i: own for batch, states in zip(plan, read, strict=True) for i, own in zip(batch, states, strict=True)
    }
    return torch.cat([found[index] for index in range(len(found))])
