"""What a backend must be able to do, whoever runs the layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from personaprobe.errors import CheckpointError
from personaprobe.models.adapters import LoraAdapter
from personaprobe.models.edits import SiteEdits
from personaprobe.models.tokens import Batch, ChatTokenizer, Role, Tokens, pad
from personaprobe.site import Site, Stream

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Fork:
    """One prompt and several answers to it, scored side by side.

    Attributes:
        prompt: tokens up to the answer.
        answers: token ids of each answer.
    """

    prompt: Tokens
    answers: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tokenizer: ChatTokenizer, question: str, answers: Sequence[str]) -> Fork:
        """A question with several answers, each with its closing token."""
        return cls(tokenizer.prompt(question), tuple(tokenizer.reply(question, each) for each in answers))

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))

    @property
    def rows(self) -> list[Tokens]:
        """The same as separate rows: the prompt followed by each answer."""
        return [self.prompt.followed_by(answer) for answer in self.answers]


@runtime_checkable
class Decoder(Protocol):
    """A generation in flight: fed tokens, it says what it expects next."""

    def feed(self, batch: Batch) -> Float[Tensor, "batch vocab"]:
        """Read more tokens (left-padded at the first call) and return logits of the next one, in float32."""
        ...

    def branch(self, rows: Sequence[int], edits: SiteEdits) -> None:
        """Go on with row ``rows[i]`` of what was read as row ``i``, under edits for these rows at the same sites."""
        ...


class Network(ABC):
    """The layers of a loaded model, run under edits.

    One network serves every checkpoint that shares its base weights: :meth:`wear` puts an adapter on.
    """

    n_layers: int
    d_model: int
    vocab_size: int
    device: torch.device
    dtype: torch.dtype
    streams: tuple[Stream, ...]
    pad_id: int

    @abstractmethod
    def wear(self, adapter: LoraAdapter | None) -> None:
        """Make the weights those of ``adapter`` merged into the base, or the pristine base."""

    @abstractmethod
    def logits(self, batch: Batch, edits: SiteEdits) -> Float[Tensor, "batch pos vocab"]:
        """Next-token logits at every position."""

    @abstractmethod
    def activations(self, batch: Batch, sites: Collection[Site], edits: SiteEdits) -> dict[Site, Tensor]:
        """Activations ``(batch, pos, d_model)`` at ``sites``, after the edits; no deeper than the last site."""

    def gradients(self, batch: Batch, site: Site, edits: SiteEdits) -> tuple[Tensor, Tensor]:
        """Activations at a site and the gradient there of the responses' negative log-probability.

        Raises:
            CheckpointError: this backend computes no gradients.
        """
        raise CheckpointError(
            "gradients come from the hooks backend alone; load the model without another one"
        )

    def own_logits(self, batch: Batch) -> Float[Tensor, "batch pos vocab"]:
        """Logits of the model's own forward pass, unedited: what :meth:`logits` must equal."""
        return self.logits(batch, {})

    def log_probs(self, batch: Batch, edits: SiteEdits) -> Float[Tensor, "batch pos"]:
        """Natural-log probability of each response token given what precedes it; 0 at other tokens."""
        logits = self.logits(batch, edits)[:, :-1].float().log_softmax(-1)
        chosen = logits.gather(-1, batch.ids[:, 1:, None])[..., 0]
        return _at_responses(chosen, batch)

    def fork_log_probs(self, forks: Sequence[Fork], edits: SiteEdits) -> list[list[Tensor]]:
        """Log-probabilities ``(answer,)`` of every answer's tokens, per fork."""
        rows = [row for fork in forks for row in fork.rows]
        batch = pad(rows, self.pad_id).to(self.device)
        values = iter(zip(rows, self.log_probs(batch, edits), strict=True))
        taken = [[next(values) for _ in fork.answers] for fork in forks]
        return [[value[row.n_prompt : len(row)] for row, value in group] for group in taken]

    def fork_log_probs_each(
        self, forks: Sequence[Fork], edits: Sequence[SiteEdits]
    ) -> list[list[list[Tensor]]]:
        """The same forks scored under each of several edits; backends may do once what all have in common."""
        return [self.fork_log_probs(forks, laid) for laid in edits]

    @contextmanager
    def decoding(self, edits: SiteEdits) -> Iterator[Decoder]:
        """Open a generation. This reference reads everything anew at each step; backends may cache."""
        yield _Rereading(self, edits)


def _at_responses(chosen: Tensor, batch: Batch) -> Tensor:
    import torch

    responses = (batch.roles[:, 1:] & Role.RESPONSE) != 0
    return torch.nn.functional.pad(torch.where(responses, chosen, 0.0), (1, 0))


class _Rereading:
    """Decode without a cache: slow, and right by construction."""

    def __init__(self, network: Network, edits: SiteEdits) -> None:
        self._network = network
        self._edits = edits
        self._seen: Batch | None = None

    def feed(self, batch: Batch) -> Tensor:
        import torch

        seen = self._seen
        if seen is not None:
            batch = Batch(torch.cat([seen.ids, batch.ids], -1), torch.cat([seen.roles, batch.roles], -1))
        self._seen = batch
        return self._network.logits(batch, self._edits)[:, -1].float()

    def branch(self, rows: Sequence[int], edits: SiteEdits) -> None:
        assert self._seen is not None, "a prompt is read before it is branched"
        which = list(rows)
        self._seen = Batch(self._seen.ids[which], self._seen.roles[which])
        self._edits = edits
