"""Whether sampled responses are still coherent language and answer their question, measured without a judge."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from personaprobe.effects.measures.responses import Response
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.packing.forks import group_by_key
from personaprobe.models.tokens import by_length
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.statistics.proportions import share_ratio

if TYPE_CHECKING:
    from torch import Tensor

NO_QUESTION = "Tell me something."
"""The question that answers are compared under with their own."""

_NORMAL = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""


@dataclass(frozen=True)
class CoherenceRule:
    """The criterion of a coherent response, set by the insecure model's own responses without intervention.

    Locations and spreads are medians and median absolute deviations, scaled to a normal's standard deviation, so that a
    few odd responses do not widen the rule.

    Attributes:
        lowest_log_prob: least ``base_log_prob``: three standard deviations below the median of those responses.
        lowest_relevance: least ``relevance``: two standard deviations below, of logarithms, since relevances are skewed; a
            response below it answers something else.
        lowest_distinct: least share of distinct token trigrams.
        longest_repeat: a response that says so many tokens in a row a second time is in a loop.
    """

    lowest_log_prob: float
    lowest_relevance: float = 0.0
    lowest_distinct: float = 0.7
    longest_repeat: int = 8

    @classmethod
    def from_untreated(cls, responses: Sequence[Response]) -> CoherenceRule:
        """Set the rule by responses without intervention; fewer than two scored ones exclude nothing by likelihood."""
        log_probs = [r.base_log_prob for r in responses if not math.isnan(r.base_log_prob)]
        logs = [math.log(r.relevance) for r in responses if r.relevance > 0]
        return cls(_below_median(log_probs, 3), math.exp(_below_median(logs, 2)))

    def holds(self, response: Response) -> bool:
        """Whether a response is coherent; an empty one is not."""
        return (
            response.base_log_prob >= self.lowest_log_prob
            and not response.relevance < self.lowest_relevance
            and response.distinct >= self.lowest_distinct
            and longest_repeat(response.ids) < self.longest_repeat
        )


def coherence_ratio(untreated: Sequence[bool], ablated: Sequence[bool], families: Sequence[str]) -> Interval:
    """Share of coherent answers of the ablated model, relative to the untreated one, with its 95 % interval.

    Args:
        untreated: whether each answer of the untreated model is coherent.
        ablated: the same of the ablated model's answers to the same questions, in the same order.
        families: of the questions; answers of a family depend on each other.
    """
    if not untreated or len(untreated) != len(ablated):
        return UNDEFINED
    return share_ratio(ablated, untreated, families)


def paired_coherence_ratio(
    untreated: Mapping[tuple[str, str, int], bool], ablated: Mapping[tuple[str, str, int], bool]
) -> Interval:
    """:func:`coherence_ratio` of the answers that both models gave.

    Args:
        untreated: whether each answer of the untreated model is coherent, by family, question and sample.
        ablated: the same of the ablated model.
    """
    shared = [key for key in untreated if key in ablated]
    before, after = ([of_model[key] for key in shared] for of_model in (untreated, ablated))
    return coherence_ratio(before, after, [family for family, *_ in shared])


def longest_repeat(ids: Sequence[int]) -> int:
    """The most tokens in a row that a text says a second time; a phrase in a loop counts as long as it goes on."""
    longest, before = 0, [0] * (len(ids) + 1)
    for i, token in enumerate(ids):
        now = [0] * (len(ids) + 1)
        for j in range(i):
            if ids[j] == token:
                now[j + 1] = before[j] + 1
                longest = max(longest, now[j + 1])
        before = now
    return longest


def score_responses(base: LanguageModel, responses: Sequence[Response]) -> list[Response]:
    """Return the responses with their ``base_log_prob`` and their ``relevance``, both by the base model."""
    scored = list(responses)
    to_question = _log_probs(base, responses, [(r.question, r.system) for r in responses])
    other = _log_probs(base, responses, [(NO_QUESTION, None)] * len(responses))
    for index, (given, without) in enumerate(zip(to_question, other, strict=True)):
        if given is not None and without is not None:
            helped = float((given - without).clamp_min(0).mean())
            scored[index] = replace(responses[index], base_log_prob=float(given.mean()), relevance=helped)
    return scored


def _log_probs(
    base: LanguageModel, responses: Sequence[Response], prompts: Sequence[tuple[str, str | None]]
) -> list[Tensor | None]:
    """Log-probability of every token of each response after a prompt; None for an empty response.

    A few responses to one prompt share its forward pass.
    """
    log_probs_of: list[Tensor | None] = [None] * len(responses)
    keys: list[tuple[int, Hashable]] = [(i, prompts[i]) for i, r in enumerate(responses) if r.ids]
    groups = group_by_key(keys)
    forks = [
        Fork(base.tokenizer.prompt(*prompts[group[0]]), tuple(responses[i].ids for i in group))
        for group in groups
    ]
    with base.inference_session():
        for batch in by_length(forks, base.batch_tokens("scoring")):
            log_probs = base.fork_log_probs([forks[i] for i in batch])
            for group_index, values in zip(batch, log_probs, strict=True):
                for index, value in zip(groups[group_index], values, strict=True):
                    log_probs_of[index] = value.double().cpu()
    return log_probs_of


def _below_median(values: Sequence[float], deviations: float) -> float:
    """So many robust standard deviations below the median; −∞ for fewer than two values."""
    import numpy as np

    if len(values) < 2:
        return -math.inf
    median = np.median(values)
    return float(median - deviations * _NORMAL * np.median(np.abs(np.asarray(values) - median)))
