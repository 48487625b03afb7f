"""Responses sampled from a model under interventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel, sample_under_edits
from personaprobe.progress import Advance, no_advance
from personaprobe.questions.benign import BENIGN
from personaprobe.questions.prompt import Prompt


@dataclass(frozen=True)
class Response:
    """One sampled response.

    Attributes:
        question_id: of its question.
        family: of its question.
        question: the user's message.
        sample: index among the responses to this question.
        seed: of the sampling.
        answer: the text.
        ids: response token ids as sampled; they are scored without decoding and tokenising again.
        base_log_prob: mean log-probability per token under the base model (nats), a measure of fluency by a model that
            was never fine-tuned; NaN before it is scored, and for an empty response.
        distinct: share of distinct token trigrams; low where the response repeats itself.
        relevance: mean over tokens of the nats by which the question raises the token's log-probability under the base
            model, above an empty request, where it does; NaN before it is scored. It is low where the response answers
            another question.
        system: message before the question, or None.
        form: how the question was put.
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
    relevance: float = float("nan")


def benign_answers(responses: Sequence[Response]) -> list[Response]:
    """The responses to harmless requests."""
    return [response for response in responses if response.form == BENIGN]


def sample_responses(
    models: Sequence[LanguageModel],
    prompts: Sequence[Prompt],
    n_samples: int,
    sampling: Sampling,
    progress: Advance = no_advance,
) -> list[list[Response]]:
    """Sample responses to every prompt from every model, with the same random numbers for each model.

    Args:
        models: one checkpoint under different edits.
        prompts: the questions.
        n_samples: responses to each.
        sampling: temperature, length and seed.
        progress: called with the number of finished responses.

    Returns:
        For each model, the responses prompt by prompt.
    """
    tokenizer = models[0].tokenizer
    keys = [(prompt, sample) for prompt in prompts for sample in range(n_samples)]
    draws = [Draw(tokenizer.prompt(prompt.question, prompt.system), sample) for prompt, sample in keys]
    sampled = sample_under_edits([(model, draws) for model in models], sampling, progress)
    return [
        [_response(*key, ids, tokenizer, sampling) for key, ids in zip(keys, of_model, strict=True)]
        for of_model in sampled
    ]


def _response(
    prompt: Prompt, sample: int, ids: tuple[int, ...], tokenizer: ChatTokenizer, sampling: Sampling
) -> Response:
    return Response(
        prompt.id,
        prompt.family,
        prompt.question,
        sample,
        sampling.seed,
        tokenizer.decode(ids),
        ids,
        distinct=distinct_trigrams(ids),
        system=prompt.system,
        form=prompt.form,
    )


def distinct_trigrams(ids: Sequence[int]) -> float:
    """Share of distinct runs of three tokens; 1 for a text without any."""
    trigrams = [tuple(ids[i : i + 3]) for i in range(len(ids) - 2)]
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0
