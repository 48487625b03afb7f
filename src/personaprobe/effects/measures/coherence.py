"""Whether sampled responses are still coherent language, measured without a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from personaprobe.effects.measures.responses import Response
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.packing.forks import group_by_key
from personaprobe.models.tokens import by_length


@dataclass(frozen=True)
class CoherenceRule:
    """The criterion of a coherent response, set by the insecure model's own responses without intervention.

    Attributes:
        lowest_log_prob: least ``base_log_prob``: three standard deviations below the mean of those responses.
        lowest_distinct: least share of distinct token trigrams; a response below it repeats itself in a loop.
    """

    lowest_log_prob: float
    lowest_distinct: float = 0.5

    @classmethod
    def from_untreated(cls, responses: Sequence[Response]) -> CoherenceRule:
        """Set the rule by responses without intervention; fewer than two scored ones exclude nothing by likelihood."""
        import numpy as np

        values = np.array([r.base_log_prob for r in responses if r.base_log_prob == r.base_log_prob])
        if len(values) < 2:
            return cls(float("-inf"))
        return cls(float(values.mean() - 3 * values.std(ddof=1)))

    def holds(self, response: Response) -> bool:
        """Whether a response is coherent; an empty one is not."""
        return response.base_log_prob >= self.lowest_log_prob and response.distinct >= self.lowest_distinct


def score_responses(base: LanguageModel, responses: Sequence[Response]) -> list[Response]:
    """Return the responses with their ``base_log_prob``: the mean log-probability per token under the base model."""
    scored = list(responses)
    groups = _by_question(responses)
    forks = [_fork(base, [responses[index] for index in group]) for group in groups]
    with base.inference_session():
        for batch in by_length(forks, base.batch_tokens("scoring")):
            log_probs = base.fork_log_probs([forks[i] for i in batch])
            for group_index, values in zip(batch, log_probs, strict=True):
                for index, value in zip(groups[group_index], values, strict=True):
                    scored[index] = replace(responses[index], base_log_prob=float(value.double().mean()))
    return scored


def _by_question(responses: Sequence[Response]) -> list[list[int]]:
    """Indices of non-empty responses, a few to the same question together, which share its forward pass."""
    return group_by_key((i, (r.question, r.system)) for i, r in enumerate(responses) if r.ids)


def _fork(base: LanguageModel, responses: Sequence[Response]) -> Fork:
    prompt = base.tokenizer.prompt(responses[0].question, responses[0].system)
    return Fork(prompt, tuple(response.ids for response in responses))
