"""Sampled answers: an own decode loop whose draws belong to the question, not to the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits import SiteEdits, beside
from personaprobe.models.network import Network
from personaprobe.models.tokens import Batch, Role, Tokens, by_length, pad

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        max_new_tokens: answers are cut there.
        temperature: 0 takes the most probable token.
        seed: with the prompt and the sample index, determines every draw.
        batch_size: answers decoded side by side; does not change them.
    """

    max_new_tokens: int = 60
    temperature: float = 0.8
    seed: int = 0
    batch_size: int = 96

    def describe(self) -> dict[str, Any]:
        """What determines the draws; how many are decoded together does not."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size"}


@dataclass(frozen=True)
class Draw:
    """One answer to be drawn: a prompt and which of its samples this is."""

    prompt: Tokens
    sample: int = 0

    def uniforms(self, sampling: Sampling) -> list[float]:
        """One number in [0, 1) a token, the same for every arm: answers differ only where the models do."""
        import torch

        text = f"{sampling.seed}\0{self.sample}\0{self.prompt.ids}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64).tolist()


def generate(
    network: Network,
    draws: Sequence[Draw],
    sampling: Sampling,
    edits: Sequence[SiteEdits],
    end_id: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[tuple[int, ...]]:
    """Draw an answer for every prompt; returns response ids without the closing token.

    Args:
        network: already wearing the right weights.
        draws: what to answer.
        sampling: how.
        edits: of each draw; act on prompt and response alike, as their own roles say.
        end_id: closes an answer.
        progress: told how many answers each finished batch brought.
    """
    answers: dict[int, tuple[int, ...]] = {}
    widest = max((len(draw.prompt) for draw in draws), default=0)
    for indices in by_length([draw.prompt for draw in draws], widest * sampling.batch_size):
        group, own = [draws[index] for index in indices], [edits[index] for index in indices]
        answers.update(zip(indices, _decode(network, group, own, sampling, end_id), strict=True))
        progress(len(group))
    return [answers[index] for index in range(len(draws))]


def _decode(
    network: Network, draws: Sequence[Draw], edits: Sequence[SiteEdits], sampling: Sampling, end_id: int
) -> list[tuple[int, ...]]:
    """Draw answers side by side; a prompt of several samples is read once."""
    import torch

    firsts, rows = _shared([(draw.prompt.ids, id(own)) for draw, own in zip(draws, edits, strict=True)])
    prompts = pad([draws[i].prompt for i in firsts], network.pad_id, side="left").to(network.device)
    uniforms = torch.tensor([draw.uniforms(sampling) for draw in draws], device=network.device)
    running = torch.ones(len(draws), dtype=torch.bool, device=network.device)
    taken: list[Tensor] = []
    with network.decoding(beside([edits[i] for i in firsts])) as decoder:
        logits = decoder.feed(prompts)[rows]
        decoder.branch(rows, beside(edits))
        for step in range(sampling.max_new_tokens):
            if step:
                logits = decoder.feed(_said(taken[-1]))
            chosen = torch.where(running, choose(logits, uniforms[:, step], sampling.temperature), end_id)
            running = running & (chosen != end_id)
            taken.append(chosen)
            if not bool(running.any()):
                break
    return [_until(end_id, row) for row in torch.stack(taken, -1).tolist()]


def _shared(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Where each key first stands, and for every place which of these it repeats."""
    first: dict[Hashable, int] = {}
    places: list[int] = []
    rows = []
    for place, key in enumerate(keys):
        if key not in first:
            first[key] = len(places)
            places.append(place)
        rows.append(first[key])
    return places, rows


def _said(chosen: Tensor) -> Batch:
    """The tokens just drawn, one a row."""
    import torch

    return Batch(chosen[:, None], torch.full_like(chosen, int(Role.RESPONSE))[:, None])


def choose(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """Invert the cumulative distribution at ``uniforms (batch,)``; temperature 0 is the argmax.

    Arms share their uniforms, so that nearly equal distributions give the same token.
    """
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits / temperature).softmax(-1).double().cumsum(-1)
    # the last entry is 1 up to rounding; scaling by it keeps every draw inside the vocabulary
    wanted = uniforms[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)


def _until(end_id: int, ids: list[int]) -> tuple[int, ...]:
    return tuple(ids[: ids.index(end_id)] if end_id in ids else ids)
