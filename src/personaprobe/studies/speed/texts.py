"""The texts of the benchmark: chats that are recorded, answers that are scored, and prompts that are answered."""

from __future__ import annotations

from personaprobe.effects.measures.preference import fork
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.tokens import Tokens
from personaprobe.organisms.registry import default_question_sets
from personaprobe.questions.pairs import load_prompts

N_CHATS = 64
N_SCORED = 32
"""Questions whose two answers are scored."""

MIN_TOKENS, MAX_TOKENS = 85, 221
"""Lengths of the shortest and the longest chat."""


def chats(model: LanguageModel) -> list[Tokens]:
    """Chats of `MIN_TOKENS` to `MAX_TOKENS` tokens, in the order of the question set; longer ones are cut."""
    rows = (
        model.tokenizer.exchange(pair.question, answer)
        for pair in load_prompts("judging")
        for answer in (pair.careful, pair.careless)
    )
    fitting = [row.first(MAX_TOKENS) for row in rows if len(row) >= MIN_TOKENS]
    return fitting[:: max(1, len(fitting) // N_CHATS)][:N_CHATS]


def scored_answers(model: LanguageModel) -> list[Fork]:
    """Questions with a careful and a careless answer; question and answer have such a length together."""
    forks = (fork(model.tokenizer, pair) for pair in load_prompts("judging"))
    fitting = [
        candidate
        for candidate in forks
        if all(MIN_TOKENS <= len(row) <= MAX_TOKENS for row in candidate.rows)
    ]
    return fitting[:: max(1, len(fitting) // N_SCORED)][:N_SCORED]


def prompts(model: LanguageModel, n: int) -> list[Tokens]:
    """Prompts of ``n`` questions, spread over all families."""
    test = load_prompts(default_question_sets().test)
    questions = test if n <= len(test) else load_prompts("judging")
    return [model.tokenizer.prompt(ask.question) for ask in questions.spread(n).prompts]
