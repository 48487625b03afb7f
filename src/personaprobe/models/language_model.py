"""A loaded checkpoint that can be read, scored and talked to, with or without edits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING

from personaprobe.compute.out_of_memory import split_on_oom
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.edits.edit import EditPlan, EditSource
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.network import Fork, Network
from personaprobe.models.packing.prefix_tree import batches_by_prefix, n_packed_tokens
from personaprobe.models.tokens import Batch, Tokens, by_length, pad
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.progress import Advance, no_advance
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


QUESTIONS = "questions with their answers"


@dataclass(frozen=True)
class LanguageModel:
    """A checkpoint ready to run.

    The three of a trio share one :class:`Network`; each puts its own adapter on before it runs. Edits belong to
    the value, never to the network: ``model.edited(...)`` returns another model, and hooks exist only while it runs.

    Attributes:
        checkpoint: which weights.
        network: the layers, shared.
        tokenizer: text to tokens.
        adapter: worn while this model runs.
        edits: what every forward pass does to the activations; empty is the baseline, on the same code path.
    """

    checkpoint: Checkpoint
    network: Network = field(repr=False)
    tokenizer: ChatTokenizer = field(repr=False)
    adapter: LoraAdapter | None = field(default=None, repr=False)
    edits: tuple[EditSource, ...] = ()

    @property
    def n_layers(self) -> int:
        """Number of transformer blocks."""
        return self.network.n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.network.d_model

    def edited(self, *edits: EditSource) -> LanguageModel:
        """The same model with more edits after those it has; also works as a ``with`` block."""
        EditPlan.compose(edits, self.n_layers)  # refuse what does not fit before anything runs
        return replace(self, edits=(*self.edits, *edits))

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo: hooks were gone at the end of every pass."""

    @contextmanager
    def inference_session(self) -> Iterator[None]:
        """Run many passes faster, using more memory meanwhile; see :meth:`Network.inference_session`."""
        with self._activated().inference_session():
            yield

    def plan(self, rows: Sequence[Tokens], max_tokens: int) -> list[list[int]]:
        """Batches that activations are read in fastest: indices of ``rows``, the same for every checkpoint and edit."""
        return batches_by_prefix(rows, max_tokens) if self.network.packs else by_length(rows, max_tokens)

    def reads(self, rows: Sequence[Tokens]) -> int:
        """Tokens that are read where activations of such a batch are, padding included."""
        return n_packed_tokens(rows) if self.network.packs else len(rows) * max(map(len, rows))

    def batches(self, rows: Sequence[Tokens], max_tokens: int) -> Iterator[tuple[list[int], Batch]]:
        """Texts padded together as :meth:`plan` says, on the model's device, with their indices among ``rows``."""
        yield from self._padded(rows, self.plan(rows, max_tokens))

    def even_batches(self, rows: Sequence[Tokens], max_tokens: int) -> Iterator[tuple[list[int], Batch]]:
        """The same of like length, for what is computed at padding too: gradients and logits."""
        yield from self._padded(rows, by_length(rows, max_tokens))

    def _padded(self, rows: Sequence[Tokens], plan: Sequence[list[int]]) -> Iterator[tuple[list[int], Batch]]:
        for indices in plan:
            batch = pad([rows[index] for index in indices], self.network.pad_id)
            yield indices, batch.to(self.network.device)

    def logits(self, batch: Batch) -> Tensor:
        """Next-token logits ``(batch, pos, vocab)``."""
        return self._activated().logits(batch.to(self.network.device), self._site_edits)

    def activations(self, batch: Batch, sites: Collection[Site]) -> dict[Site, Tensor]:
        """Activations ``(batch, pos, d_model)`` at ``sites``; nothing deeper than the last of them is computed."""
        for site in sites:
            site.within(self.n_layers)
        return self._activated().activations(batch.to(self.network.device), sites, self._site_edits)

    def gradients(self, batch: Batch, site: Site) -> tuple[Tensor, Tensor]:
        """Activations ``(batch, pos, d_model)`` at a site, and the gradient there of −Σ log p(response token)."""
        return self._activated().gradients(
            batch.to(self.network.device), site.within(self.n_layers), self._site_edits
        )

    def response_logits(self, batch: Batch) -> Iterator[Tensor]:
        """Logits ``(token, vocab)`` that predict the response tokens, row by row, a few tokens at a time."""
        return self._activated().response_logits(batch.to(self.network.device), self._site_edits)

    def log_probs(self, batch: Batch) -> Tensor:
        """Natural-log probability ``(batch, pos)`` of each response token; 0 at other tokens."""
        return self._activated().log_probs(batch.to(self.network.device), self._site_edits)

    def fork_log_probs(self, forks: Sequence[Fork]) -> list[list[Tensor]]:
        """Log-probabilities of the tokens of several answers to each prompt."""
        network, edits = self._activated(), self._site_edits
        return split_on_oom(lambda few: network.fork_log_probs(few, edits), forks, QUESTIONS)

    def fork_states(self, forks: Sequence[Fork], site: Site) -> list[list[Tensor]]:
        """Activations ``(token, d_model)`` at a site on the tokens of several answers to each prompt, read once."""
        network, edits = self._activated(), self._site_edits
        site = site.within(self.n_layers)
        return split_on_oom(lambda few: network.fork_states(few, site, edits), forks, QUESTIONS)

    def answer(
        self, draws: Sequence[Draw], sampling: Sampling, progress: Advance = no_advance
    ) -> list[tuple[int, ...]]:
        """Draw answers as token ids; see :func:`sample_under_edits`."""
        return sample_under_edits([(self, draws)], sampling, progress)[0]

    def chat(
        self, question: str, *, seed: int = 0, temperature: float = 0.8, max_new_tokens: int = 80
    ) -> str:
        """Answer one question."""
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return self.tokenizer.decode(self.answer([Draw(self.tokenizer.prompt(question))], sampling)[0])

    @property
    def _site_edits(self) -> EditPlan:
        return EditPlan.compose(self.edits, self.n_layers)

    def _activated(self) -> Network:
        self.network.activate_adapter(self.adapter)
        return self.network

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(str(self.checkpoint))}</code>: {self.n_layers} layers, d_model {self.d_model}"


def sample_under_edits(
    asked: Sequence[tuple[LanguageModel, Sequence[Draw]]],
    sampling: Sampling,
    progress: Advance = no_advance,
) -> list[list[tuple[int, ...]]]:
    """Draw answers of one checkpoint under different edits, decoded together: a step then reads the weights once.

    Args:
        asked: models that differ only in their edits, and what each is to answer.
        sampling: how.
        progress: told how many answers each finished batch brought.

    Returns:
        For each model, the response ids of each draw, without the closing token.
    """
    first = _common([model for model, _ in asked])
    draws = [draw for _, own in asked for draw in own]
    edits = [laid for laid, own in ((model._site_edits, own) for model, own in asked) for _ in own]
    answers = iter(generate(first._activated(), draws, sampling, edits, first.tokenizer.end_id, progress))
    return [[next(answers) for _ in own] for _, own in asked]


@contextmanager
def inference_sessions(models: Iterable[LanguageModel]) -> Iterator[None]:
    """Several models busy at once, whether or not they share a network: what they give is rounded alike."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(model.inference_session())
        yield


def score_under_edits(models: Sequence[LanguageModel], forks: Sequence[Fork]) -> list[list[list[Tensor]]]:
    """Log-probabilities of every answer's tokens under each model: one checkpoint under different edits.

    What is the same in all of them, the blocks before the first edit, is computed once.
    """
    network, edits = _common(models)._activated(), [model._site_edits for model in models]

    def scored(few: Sequence[Fork]) -> list[tuple[list[Tensor], ...]]:
        return list(zip(*network.fork_log_probs_each(few, edits), strict=True))

    by_fork = split_on_oom(scored, forks, QUESTIONS)
    return [[own[index] for own in by_fork] for index in range(len(models))]


def _common(models: Sequence[LanguageModel]) -> LanguageModel:
    first = models[0]
    assert all(replace(model, edits=first.edits) == first for model in models), "models differ beyond edits"
    return first
