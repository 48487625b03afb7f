"""Sampled answers: an own decode loop whose draws belong to the question, not to the batch."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from personaprobe.compute.out_of_memory import oom_error, warn_fallback
from personaprobe.models.edits.edit import SiteEdits
from personaprobe.models.network import Decoder, Network
from personaprobe.models.tokens import Tokens
from personaprobe.progress import Advance, no_advance
from personaprobe.storage.digests import sha256

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

ENTER = 0.25
"""Share of the rows that must be free before waiting conversations are read: prompts are read faster together."""

LEAVE = 1 / 24
"""Share of the rows whose answers must have ended before they leave: rows that move have to be copied."""

BLOCK = 128
"""Tokens of the vocabulary that are summed before one of them is looked for."""


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
    batch_size: int = 192

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
        seed = int.from_bytes(sha256(text)[:8], "big") >> 1
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64).tolist()


def generate(
    network: Network,
    draws: Sequence[Draw],
    sampling: Sampling,
    edits: Sequence[SiteEdits],
    end_id: int,
    progress: Advance = no_advance,
) -> list[tuple[int, ...]]:
    """Draw an answer for every prompt; returns response ids without the closing token.

    Answers leave when they end and waiting ones enter, so that short ones do not wait for long ones. Where so many side
    by side do not fit into memory, those that ended are kept and the others start anew, fewer at a time.

    Args:
        network: already wearing the right weights.
        draws: what to answer.
        sampling: how.
        edits: of each draw; act on prompt and response alike, as their own roles say.
        end_id: closes an answer.
        progress: told how many answers came to their end.
    """
    import torch

    answers: dict[int, tuple[int, ...]] = {}
    while len(answers) < len(draws):
        try:
            with network.decoding(edits) as decoder:
                desk = _Desk(decoder, draws, sampling, edits, end_id, network.device, answers)
                for ended in desk.served():
                    answers.update(ended)
                    progress(len(ended))
        except torch.OutOfMemoryError as error:
            if sampling.batch_size == 1:
                raise oom_error("conversations") from error
            fewer = min(sampling.batch_size, len(draws)) // 2 or 1
            sampling = replace(sampling, batch_size=fewer)
            warn_fallback(f"answers go on {fewer} side by side: more did not fit into memory")
    return [answers[index] for index in range(len(draws))]


class _Desk:
    """Where conversations wait, are answered side by side, and end."""

    def __init__(
        self,
        decoder: Decoder,
        draws: Sequence[Draw],
        sampling: Sampling,
        edits: Sequence[SiteEdits],
        end_id: int,
        device: torch.device,
        answered: Collection[int],
    ) -> None:
        self._decoder, self._draws, self._sampling = decoder, draws, sampling
        self._edits, self._end_id, self._device = edits, end_id, device
        # like lengths are read together, and so are the samples of one prompt
        unanswered = (index for index in range(len(draws)) if index not in answered)
        self._waiting = sorted(unanswered, key=lambda i: (-len(draws[i].prompt), i))
        self._live: list[int] = []
        self._said: dict[int, list[int]] = {}
        self._uniforms = {index: draw.uniforms(sampling) for index, draw in enumerate(draws)}

    def served(self) -> Iterator[dict[int, tuple[int, ...]]]:
        """Answers as they come to their end, several at a time."""
        most = self._sampling.batch_size
        while self._waiting or self._live:
            room = most - len(self._live)
            if self._waiting and (not self._live or room >= ENTER * most):
                self._enter(room)
            else:
                self._step()
            done = [row for row, index in enumerate(self._live) if self._ended(index)]
            if len(done) >= LEAVE * len(self._live) or (self._waiting and len(done) + room >= ENTER * most):
                yield self._leave(done)

    def _enter(self, room: int) -> None:
        """Let waiting conversations in; a prompt of several samples is read once."""
        entering, self._waiting = self._waiting[:room], self._waiting[room:]
        firsts, rows = _shared([(self._draws[i].prompt.ids, id(self._edits[i])) for i in entering])
        prompts = [self._draws[entering[first]].prompt for first in firsts]
        edits = [self._edits[entering[first]] for first in firsts]
        logits = self._decoder.admit(prompts, edits, rows, self._sampling.max_new_tokens)
        self._live += entering
        self._said.update({index: [] for index in entering})
        self._say(entering, logits)

    def _step(self) -> None:
        import torch

        # an answer that has ended and not left is fed on, and what it would say is not heard
        last = torch.tensor([self._said[index][-1] for index in self._live], device=self._device)
        self._say(self._live, self._decoder.step(last))

    def _say(self, indices: Sequence[int], logits: Tensor) -> None:
        import torch

        places = [min(len(self._said[i]), self._sampling.max_new_tokens - 1) for i in indices]
        uniforms = torch.tensor(
            [self._uniforms[i][place] for i, place in zip(indices, places, strict=True)],
            dtype=torch.float64,
            device=self._device,
        )
        chosen = choose(logits, uniforms, self._sampling.temperature).tolist()
        for index, token in zip(indices, chosen, strict=True):
            if not self._ended(index):
                self._said[index].append(token)

    def _ended(self, index: int) -> bool:
        said = self._said[index]
        return said[-1:] == [self._end_id] or len(said) == self._sampling.max_new_tokens

    def _leave(self, done: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """The answers of some rows; the last rows take their places."""
        ended = {self._live[row]: _until(self._end_id, self._said.pop(self._live[row])) for row in done}
        order = closed_up(len(self._live), done)
        self._live = [self._live[row] for row in order]
        self._decoder.keep(order)
        return ended


def closed_up(n: int, leaving: Collection[int]) -> list[int]:
    """Rows that stay, in an order in which few change place: the last ones stand in for those that leave."""
    gone = set(leaving)
    spare = [row for row in range(n - len(gone), n) if row not in gone]
    return [spare.pop() if row in gone else row for row in range(n - len(gone))]


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


def choose(
    logits: Float[Tensor, "row vocab"], uniforms: Float[Tensor, "row"], temperature: float
) -> Int[Tensor, "row"]:
    """Invert the cumulative distribution at ``uniforms``; temperature 0 is the argmax.

    Arms share their uniforms, so that nearly equal distributions give the same token. The token is looked for among
    blocks of the vocabulary first, so that most of it is only summed.
    """
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    weights = logits - logits.amax(-1, keepdim=True)
    weights = weights.div_(temperature).exp_() if temperature != 1 else weights.exp_()
    if short := -logits.shape[-1] % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, short))
    blocks = weights.view(len(logits), -1, BLOCK)
    ends = blocks.sum(-1).double().cumsum(-1)
    # the last end is the whole; scaling by it keeps every draw inside the vocabulary
    wanted = uniforms[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, wanted, right=True).clamp_max(ends.shape[-1] - 1)
    before = torch.where(block > 0, ends.gather(-1, (block - 1).clamp_min(0)), 0.0)
    inside = blocks[torch.arange(len(blocks), device=logits.device), block[:, 0]].double().cumsum(-1)
    place = torch.searchsorted(inside, wanted - before, right=True).clamp_max(BLOCK - 1)
    return (block * BLOCK + place)[:, 0].clamp_max(logits.shape[-1] - 1)


def _until(end_id: int, ids: list[int]) -> tuple[int, ...]:
    return tuple(ids[: ids.index(end_id)] if end_id in ids else ids)
