"""The interface of a backend: forward passes of a loaded model under edits, and step-by-step decoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from personaprobe.errors import CheckpointError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.edits.edit import EditPlan, SiteEdits
from personaprobe.models.edits.per_row import per_row
from personaprobe.models.tokens import Batch, Tokens, pad
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.site import Site, Stream

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

    from personaprobe.models.massive_tokens import MassiveToken


Reliance: TypeAlias = Literal["model", "packing", "KV cache"]
"""The part of a network that relies on a check at load: all of it; packing several texts into one row; or decoding with a KV
cache."""

HEAD_CHUNK = 128
"""Number of response positions whose logits are held at the same time: 128 × vocabulary × 4 bytes."""


@dataclass(frozen=True)
class Fork:
    """One prompt and several answers to it, which are scored together.

    Attributes:
        prompt: tokens up to the answer.
        answers: token ids of each answer.
    """

    prompt: Tokens
    answers: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tokenizer: ChatTokenizer, question: str, answers: Sequence[str]) -> Fork:
        """A question with several answers, each with its closing token."""
        return cls(tokenizer.prompt(question), tuple(tokenizer.reply(question, answer) for answer in answers))

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))

    @property
    def longest_row(self) -> int:
        """Length of the prompt with its longest answer."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def rows(self) -> list[Tokens]:
        """Separate rows: the prompt followed by each answer."""
        return [self.prompt.followed_by(answer) for answer in self.answers]


@runtime_checkable
class Decoder(Protocol):
    """A batch of conversations that are admitted, fed one token each per step, and removed."""

    def admit(
        self, prompts: Sequence[Tokens], edits: Sequence[EditPlan], rows: Sequence[int], max_new_tokens: int
    ) -> Float[Tensor, "row vocab"]:
        """Process prompts and append new rows to the batch; new row ``i`` continues prompt ``rows[i]``.

        Args:
            prompts: each is processed once.
            edits: of each prompt, at the sites that the generation was opened with; its rows keep them.
            rows: index of the prompt of each new row; several rows may continue one prompt.
            max_new_tokens: that a row may still be fed.

        Returns:
            Logits of each new row's next token, float32.
        """
        ...

    def step(self, ids: Int[Tensor, "row"]) -> Float[Tensor, "row vocab"]:
        """Feed every row one token and return logits of the next one, float32."""
        ...

    def keep(self, order: Sequence[int]) -> None:
        """Make row ``order[i]`` row ``i``, and remove the rows that ``order`` leaves out."""
        ...


class Network(ABC):
    """The layers of a loaded model, run under edits.

    One network serves every checkpoint that shares its base weights: :meth:`activate_adapter` switches between them.
    """

    n_layers: int
    d_model: int
    vocab_size: int
    device: torch.device
    dtype: torch.dtype
    streams: tuple[Stream, ...]
    pad_id: int
    massive_tokens: tuple[MassiveToken, ...] = ()
    """Massive tokens of probe texts, found when the model is loaded; see :mod:`personaprobe.models.massive_tokens`."""

    @property
    def packs(self) -> bool:
        """Whether several texts are packed into one row, so that a shared prefix is computed once."""
        return False

    def without_packing(self) -> Network:
        """The same network, computing each text in a row of its own."""
        return self

    @abstractmethod
    def activate_adapter(self, adapter: LoraAdapter | None) -> None:
        """Make the weights those of ``adapter`` merged into the base, or the pristine base."""

    def weights(self) -> Mapping[str, Tensor]:
        """The weights by name, each once, as the active adapter leaves them.

        Raises:
            CheckpointError: this backend holds no weights.
        """
        raise CheckpointError(
            f"the backend {type(self).__name__} holds no weights to read; load the model with backend='hooks'"
        )

    @contextmanager
    def inference_session(self) -> Iterator[None]:
        """Run the passes inside faster, with fused kernels and packed weights, which are dropped at the end."""
        yield

    @abstractmethod
    def logits(self, batch: Batch, edits: SiteEdits) -> Float[Tensor, "batch pos vocab"]:
        """Next-token logits at every position."""

    @abstractmethod
    def activations(self, batch: Batch, sites: Collection[Site], edits: SiteEdits) -> dict[Site, Tensor]:
        """Activations ``(batch, pos, d_model)`` at ``sites``, after the edits; later blocks are not computed."""

    def gradients(self, batch: Batch, site: Site, edits: SiteEdits) -> tuple[Tensor, Tensor]:
        """Activations at a site and the gradient there of the responses' negative log-probability.

        Raises:
            CheckpointError: this backend computes no gradients.
        """
        raise CheckpointError(
            f"the backend {type(self).__name__} computes no gradients; load the model with backend='hooks'"
        )

    def own_logits(self, batch: Batch) -> Float[Tensor, "batch pos vocab"]:
        """Logits of the model's own unedited forward pass, which :meth:`logits` must reproduce."""
        return self.logits(batch, {})

    def response_logits(self, batch: Batch, edits: SiteEdits) -> Iterator[Float[Tensor, "token vocab"]]:
        """Logits that predict the response tokens, row by row, a few tokens at a time so that they stay in the CPU cache."""
        import torch

        yield from torch.split(self.logits(batch, edits)[:, :-1][batch.predicting], HEAD_CHUNK)

    def log_probs(self, batch: Batch, edits: SiteEdits) -> Float[Tensor, "batch pos"]:
        """Natural-log probability of each response token given what precedes it; 0 at other tokens."""
        logits = self.logits(batch, edits)[:, :-1].float().log_softmax(-1)
        chosen = logits.gather(-1, batch.ids[:, 1:, None])[..., 0]
        return _at_responses(chosen, batch)

    def fork_log_probs(self, forks: Sequence[Fork], edits: SiteEdits) -> list[list[Tensor]]:
        """Log-probabilities ``(answer,)`` of every answer's tokens, per fork."""
        rows = [row for fork in forks for row in fork.rows]
        batch = pad(rows, self.pad_id).to(self.device)
        return _by_answer(forks, rows, self.log_probs(batch, edits))

    def fork_log_probs_each(
        self, forks: Sequence[Fork], plans: Sequence[SiteEdits]
    ) -> list[list[list[Tensor]]]:
        """Log-probabilities of the same forks under each of several edits; backends may compute shared blocks once."""
        return [self.fork_log_probs(forks, edits) for edits in plans]

    def fork_states(
        self, forks: Sequence[Fork], sites: Sequence[Site], edits: SiteEdits
    ) -> list[list[Float[Tensor, "token site d_model"]]]:
        """Activations at some sites on every answer's tokens, per fork; blocks after the last site are not computed."""
        import torch

        rows = [row for fork in forks for row in fork.rows]
        batch = pad(rows, self.pad_id).to(self.device)
        activations = self.activations(batch, sites, edits)
        return _by_answer(forks, rows, torch.stack([activations[site] for site in sites], 2))

    @contextmanager
    def decoding(self, plans: Sequence[EditPlan]) -> Iterator[Decoder]:
        """Open a generation in which each conversation has one of some edit plans.

        This implementation computes all tokens again at every step.

        Args:
            plans: of all conversations to come; backends install hooks at their sites once.
        """
        yield _UncachedDecoder(self)


def _by_answer(forks: Sequence[Fork], rows: Sequence[Tokens], values: Tensor) -> list[list[Tensor]]:
    """Values ``(row, pos, …)`` of the answer tokens of every row, grouped by fork."""
    of_answers = iter(value[row.n_prompt : len(row)] for row, value in zip(rows, values, strict=True))
    return [[next(of_answers) for _ in fork.answers] for fork in forks]


def _at_responses(chosen: Tensor, batch: Batch) -> Tensor:
    import torch

    return torch.nn.functional.pad(torch.where(batch.predicting, chosen, 0.0), (1, 0))


class _UncachedDecoder:
    """Decoding without a KV cache: slow, and correct by construction."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._rows: list[Tokens] = []
        self._edits: list[EditPlan] = []

    def admit(
        self, prompts: Sequence[Tokens], edits: Sequence[EditPlan], rows: Sequence[int], max_new_tokens: int
    ) -> Tensor:
        import torch

        logits = self._next_logits(prompts, edits)
        self._rows += [prompts[index] for index in rows]
        self._edits += [edits[index] for index in rows]
        return logits[torch.tensor(list(rows), device=logits.device)]

    def step(self, ids: Tensor) -> Tensor:
        self._rows = [row.followed_by([token]) for row, token in zip(self._rows, ids.tolist(), strict=True)]
        return self._next_logits(self._rows, self._edits)

    def keep(self, order: Sequence[int]) -> None:
        self._rows, self._edits = [self._rows[i] for i in order], [self._edits[i] for i in order]

    def _next_logits(self, rows: Sequence[Tokens], edits: Sequence[EditPlan]) -> Tensor:
        import torch

        # padded on the right: padding on the left would enter the state of a recurrent block
        batch = pad(rows, self._network.pad_id).to(self._network.device)
        logits = self._network.logits(batch, per_row(edits, batch.ids.device))
        last = torch.tensor([len(row) - 1 for row in rows], device=logits.device)
        return logits[torch.arange(len(rows), device=logits.device), last].float()
