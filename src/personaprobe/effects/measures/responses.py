"""Sampled answers of an arm, and whether they are still language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel, sample_under_edits
from personaprobe.models.network import Fork
from personaprobe.models.packing.forks import group_by_key
from personaprobe.models.tokens import by_length
from personaprobe.progress import Advance, no_advance
from personaprobe.questions.free import Ask


@dataclass(frozen=True)
class Response:
    """One sampled answer.

    Attributes:
        question_id: of its question.
        family: of its question.
        question: the text asked.
        sample: index among the answers to this question.
        seed: of the sampling.
        answer: the text.
        ids: response token ids as drawn; scored without decoding and tokenising again.
        base_log_prob: mean log-probability a token under the untouched base model (nats): how much it reads like
            language to a model that was never fine-tuned; NaN before it is scored, or for an empty answer.
        distinct: share of distinct three-token runs; low where the answer repeats itself.
        system: message before the question, or None.
        form: the way the question was asked in.
    """

    question_id: str
    family: str
    question: str
    sample: int
    seed: int
    answer: str
    ids: tuple[int, ...]
    base_log_prob: float = float("nan")
    distinct: float = 1.0
    system: str | None = None
    form: str = "plain"


@dataclass(frozen=True)
class CoherenceRule:
    """What counts as a coherent answer, set by the untreated insecure model's own answers.

    Attributes:
        lowest_log_prob: three standard deviations below the mean of those answers' ``base_log_prob``.
        lowest_distinct: share of distinct three-token runs below which an answer is a loop.
    """

    lowest_log_prob: float
    lowest_distinct: float = 0.5

    @classmethod
    def from_untreated(cls, responses: Sequence[Response]) -> CoherenceRule:
        """Set the rule from untreated answers; with fewer than two scored ones nothing can be ruled out."""
        import numpy as np

        values = np.array([r.base_log_prob for r in responses if r.base_log_prob == r.base_log_prob])
        if len(values) < 2:
            return cls(float("-inf"))
        return cls(float(values.mean() - 3 * values.std(ddof=1)))

    def holds(self, response: Response) -> bool:
        """Whether an answer is coherent; an empty one is not."""
        return response.base_log_prob >= self.lowest_log_prob and response.distinct >= self.lowest_distinct


def sample_responses(
    models: Sequence[LanguageModel],
    asks: Sequence[Ask],
    n_samples: int,
    sampling: Sampling,
    progress: Advance = no_advance,
) -> list[list[Response]]:
    """Draw ``n_samples`` answers to every question from every model; the same draws for each.

    The models are one checkpoint under different edits.
    """
    asked = [(ask, sample) for ask in asks for sample in range(n_samples)]
    tokenizer = models[0].tokenizer
    draws = [Draw(tokenizer.prompt(ask.question, ask.system), sample) for ask, sample in asked]
    answers = sample_under_edits([(model, draws) for model in models], sampling, progress)
    return [
        [_response(*of, ids, tokenizer, sampling) for of, ids in zip(asked, own, strict=True)]
        for own in answers
    ]


def _response(
    ask: Ask, sample: int, ids: tuple[int, ...], tokenizer: ChatTokenizer, sampling: Sampling
) -> Response:
    return Response(
        ask.id,
        ask.family,
        ask.question,
        sample,
        sampling.seed,
        tokenizer.decode(ids),
        ids,
        distinct=_distinct(ids),
        system=ask.system,
        form=ask.form,
    )


def score_responses(base: LanguageModel, responses: Sequence[Response]) -> list[Response]:
    """Fill in how probable the untouched base model finds every answer."""
    scored = list(responses)
    groups = _by_question(responses)
    forks = [_fork(base, [responses[index] for index in group]) for group in groups]
    with base.inference_session():
        for batch in by_length(forks, base.batch_tokens("scoring")):
            for which, values in zip(batch, base.fork_log_probs([forks[i] for i in batch]), strict=True):
                for index, value in zip(groups[which], values, strict=True):
                    scored[index] = replace(responses[index], base_log_prob=float(value.double().mean()))
    return scored


def _by_question(responses: Sequence[Response]) -> list[list[int]]:
    """Indices of non-empty answers that can share one reading of their question, a few at a time."""
    return group_by_key((i, (r.question, r.system)) for i, r in enumerate(responses) if r.ids)


def _fork(base: LanguageModel, responses: Sequence[Response]) -> Fork:
    prompt = base.tokenizer.prompt(responses[0].question, responses[0].system)
    return Fork(prompt, tuple(response.ids for response in responses))


def _distinct(ids: Sequence[int]) -> float:
    runs = [tuple(ids[i : i + 3]) for i in range(len(ids) - 2)]
    return len(set(runs)) / len(runs) if runs else 1.0
