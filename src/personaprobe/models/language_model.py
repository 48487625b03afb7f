"""A loaded checkpoint: it tokenises, runs forward passes, scores and generates, with or without edits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

from personaprobe.compute.out_of_memory import split_on_oom
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.edits.edit import EditPlan, EditSource
from personaprobe.models.generation.continuous_batching import Watch, generate, watch_nothing
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

Computation: TypeAlias = Literal["recording", "activations", "scoring", "logits"]
"""What a batch is for: storing activations, processing them further on the device, log-probabilities of answers, or logits
and gradients at every position."""

_BATCH_TOKENS: dict[Computation, int] = {
    "recording": 16384,
    "activations": 2048,
    "scoring": 2048,
    "logits": 1024,
}
_RECORDING_TOKENS_CPU = 4096

SCORED_ITEMS = "questions with their answers"
"""Name of forks in messages about memory."""


@dataclass(frozen=True)
class LanguageModel:
    """A checkpoint that is ready to run.

    The three models of a trio share one :class:`Network`; each activates its own adapter before it runs. Edits belong to
    this value and not to the network: ``model.edited(...)`` returns another model, and hooks exist only while it runs.

    Attributes:
        checkpoint: which weights.
        network: the layers, shared.
        tokenizer: text to tokens.
        adapter: active while this model runs.
        edits: applied to the activations of every forward pass; empty is the baseline, on the same code path.
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

    @property
    def edit_plan(self) -> EditPlan:
        """The edits of every forward pass, by site."""
        return EditPlan.compose(self.edits, self.n_layers)

    def edited(self, *edits: EditSource) -> LanguageModel:
        """Return the same model with further edits after its own; also works as a ``with`` block.

        Raises:
            SiteError: the model does not have one of the sites.
        """
        EditPlan.compose(edits, self.n_layers)  # sites are checked before anything runs
        return replace(self, edits=(*self.edits, *edits))

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo: hooks are removed at the end of every forward pass."""

    @contextmanager
    def inference_session(self) -> Iterator[None]:
        """Run the passes inside faster, with more memory meanwhile; see :meth:`Network.inference_session`."""
        with self._activated().inference_session():
            yield

    # batches

    def batch_tokens(self, computation: Computation) -> int:
        """Tokens of one batch, padding included.

        Results depend on it by rounding only. It is the same for every arm of a study, so that arms are rounded alike.
        """
        if computation == "recording" and self.network.device.type == "cpu":
            return _RECORDING_TOKENS_CPU
        return _BATCH_TOKENS[computation]

    def plan_batches(self, rows: Sequence[Tokens], max_tokens: int) -> list[list[int]]:
        """Plan the batches in which activations are computed fastest, as indices of ``rows``.

        The plan depends on the texts only, and is the same for every adapter and edit.
        """
        return batches_by_prefix(rows, max_tokens) if self.network.packs else by_length(rows, max_tokens)

    def n_computed_tokens(self, rows: Sequence[Tokens]) -> int:
        """Number of tokens that are computed for one batch of activations, padding included, shared prefixes once."""
        return n_packed_tokens(rows) if self.network.packs else len(rows) * max(map(len, rows))

    def batches(self, rows: Sequence[Tokens], max_tokens: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield the batches of :meth:`plan_batches`, padded, on the model's device, with their indices of ``rows``."""
        yield from self._padded(rows, self.plan_batches(rows, max_tokens))

    def even_batches(self, rows: Sequence[Tokens], max_tokens: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield batches of texts of similar length, for gradients and logits, which are computed at padding too."""
        yield from self._padded(rows, by_length(rows, max_tokens))

    def _padded(self, rows: Sequence[Tokens], plan: Sequence[list[int]]) -> Iterator[tuple[list[int], Batch]]:
        for indices in plan:
            batch = pad([rows[index] for index in indices], self.network.pad_id)
            yield indices, batch.to(self.network.device)

    # forward passes

    def logits(self, batch: Batch) -> Tensor:
        """Next-token logits ``(batch, pos, vocab)``."""
        return self._activated().logits(batch.to(self.network.device), self.edit_plan)

    def activations(self, batch: Batch, sites: Collection[Site]) -> dict[Site, Tensor]:
        """Activations ``(batch, pos, d_model)`` at ``sites``; blocks after the last site are not computed.

        Raises:
            SiteError: the model does not have one of the sites.
        """
        for site in sites:
            site.within(self.n_layers)
        return self._activated().activations(batch.to(self.network.device), sites, self.edit_plan)

    def gradients(self, batch: Batch, site: Site) -> tuple[Tensor, Tensor]:
        """Activations ``(batch, pos, d_model)`` at a site, and the gradient there of −Σ log p(response token)."""
        return self._activated().gradients(
            batch.to(self.network.device), site.within(self.n_layers), self.edit_plan
        )

    def response_logits(self, batch: Batch) -> Iterator[Tensor]:
        """Logits ``(token, vocab)`` that predict the response tokens, row by row, a few tokens at a time."""
        return self._activated().response_logits(batch.to(self.network.device), self.edit_plan)

    def log_probs(self, batch: Batch) -> Tensor:
        """Natural-log probability ``(batch, pos)`` of each response token; 0 at other tokens."""
        return self._activated().log_probs(batch.to(self.network.device), self.edit_plan)

    def fork_log_probs(self, forks: Sequence[Fork]) -> list[list[Tensor]]:
        """Natural-log probabilities ``(token,)`` of each answer's tokens, by fork and answer."""
        network, plan = self._activated(), self.edit_plan
        return split_on_oom(lambda part: network.fork_log_probs(part, plan), forks, SCORED_ITEMS)

    def fork_states(self, forks: Sequence[Fork], sites: Sequence[Site]) -> list[list[Tensor]]:
        """Activations ``(token, site, d_model)`` at some sites on each answer's tokens, by fork and answer."""
        network, plan = self._activated(), self.edit_plan
        sites = [site.within(self.n_layers) for site in sites]
        return split_on_oom(lambda part: network.fork_states(part, sites, plan), forks, SCORED_ITEMS)

    # generation

    def answer(
        self, draws: Sequence[Draw], sampling: Sampling, progress: Advance = no_advance
    ) -> list[tuple[int, ...]]:
        """Sample answers as token ids; see :func:`sample_under_edits`."""
        return sample_under_edits([(self, draws)], sampling, progress)[0]

    def chat(
        self, question: str, *, seed: int = 0, temperature: float = 0.8, max_new_tokens: int = 80
    ) -> str:
        """Answer one question."""
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return chat_under_edits([self], question, sampling)[0]

    def _activated(self) -> Network:
        """The network with this model's adapter active."""
        self.network.activate_adapter(self.adapter)
        return self.network

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(str(self.checkpoint))}</code>: {self.n_layers} layers, d_model {self.d_model}"


def sample_under_edits(
    draws_by_model: Sequence[tuple[LanguageModel, Sequence[Draw]]],
    sampling: Sampling,
    progress: Advance = no_advance,
    watch: Watch = watch_nothing,
) -> list[list[tuple[int, ...]]]:
    """Sample answers of one checkpoint under different edits in one batch, so that a step reads the weights once.

    Args:
        draws_by_model: models that differ only in their edits, each with the answers to sample.
        sampling: how tokens are sampled.
        progress: called with the number of answers of every finished batch.
        watch: called with every new token and the place of its answer among all of them, model by model.

    Returns:
        For each model, the response ids of each draw, without the closing token.
    """
    first = _first_of_same([model for model, _ in draws_by_model])
    draws = [draw for _, model_draws in draws_by_model for draw in model_draws]
    plans = [
        plan
        for plan, n_draws in ((model.edit_plan, len(model_draws)) for model, model_draws in draws_by_model)
        for _ in range(n_draws)
    ]
    network, end_ids = first._activated(), first.tokenizer.end_ids
    answers = iter(generate(network, draws, sampling, plans, end_ids, progress, watch))
    return [[next(answers) for _ in model_draws] for _, model_draws in draws_by_model]


def chat_under_edits(
    models: Sequence[LanguageModel],
    question: str,
    sampling: Sampling,
    watch: Callable[[int, str], object] = lambda place, text: None,
) -> list[str]:
    """Answer one question with models that differ only in their edits, in one batch; all draw the same random numbers.

    Args:
        models: of one checkpoint.
        question: put into the chat template.
        sampling: how tokens are sampled.
        watch: called with the place of a model and its answer so far, whenever that grows.

    Returns:
        The answer of each model.
    """
    tokenizer = _first_of_same(models).tokenizer
    draws = [Draw(tokenizer.prompt(question))]
    answers = sample_under_edits(
        [(model, draws) for model in models],
        sampling,
        watch=lambda place, ids: watch(place, tokenizer.decode(ids)),
    )
    return [tokenizer.decode(answer) for (answer,) in answers]


@contextmanager
def inference_sessions(models: Iterable[LanguageModel]) -> Iterator[None]:
    """Open inference sessions of several models, so that rounding is the same in all of them.

    The models may or may not share a network.
    """
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(model.inference_session())
        yield


def score_under_edits(models: Sequence[LanguageModel], forks: Sequence[Fork]) -> list[list[list[Tensor]]]:
    """Log-probabilities of every answer's tokens under models of one checkpoint that differ in their edits.

    The blocks before the first edit are computed once for all models.

    Returns:
        For each model, log-probabilities ``(token,)`` by fork and answer.
    """
    network, plans = _first_of_same(models)._activated(), [model.edit_plan for model in models]

    def scored(part: Sequence[Fork]) -> list[tuple[list[Tensor], ...]]:
        return list(zip(*network.fork_log_probs_each(part, plans), strict=True))

    by_fork = split_on_oom(scored, forks, SCORED_ITEMS)
    return [[by_model[index] for by_model in by_fork] for index in range(len(models))]


def _first_of_same(models: Sequence[LanguageModel]) -> LanguageModel:
    """The first of some models, which must differ only in their edits."""
    first = models[0]
    assert all(replace(model, edits=first.edits) == first for model in models), "models differ beyond edits"
    return first
