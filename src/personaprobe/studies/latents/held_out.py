"""Shipped text on which dictionaries are evaluated; none is trained on it."""

from __future__ import annotations

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.organisms.registry import default_question_sets
from personaprobe.questions.pairs import load_prompts
from personaprobe.questions.texts import load_texts
from personaprobe.studies.arms.arm import calibration_rows

N_CONVERSATIONS = 48


def held_out_texts(model: LanguageModel) -> list[Tokens]:
    """Conversations of the default organism's discovery families, and neutral prose.

    Args:
        model: whose tokenizer is used; all checkpoints of a trio have the same.
    """
    questions = load_prompts(default_question_sets().discovery).spread(N_CONVERSATIONS)
    prose = map(model.tokenizer.text, load_texts("neutral/discovery"))
    return [*calibration_rows(model, questions), *prose]
