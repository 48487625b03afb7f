"""Automated interpretation: a model proposes names of latents, and the names are scored by detection.

The model reads contexts in which a latent is active, with its strongest tokens marked, and proposes a name. Detection
scores any name: given the name alone, a model says in which held-out contexts the latent is active (Paulo et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personaprobe.errors import FeatureError
from personaprobe.features.sae.interpretation.examples import Context
from personaprobe.features.sae.interpretation.latent_profile import LatentProfile
from personaprobe.models.chat_models import ChatModel

MARKED_SHARE = 0.5
"""Share of a context's largest activation from which a token is marked."""

NAME_TOKENS = 24

# The wording of both prompts is part of the measurement: another wording would change names and scores.
_PROPOSE = """Each line below is a stretch of text. The words between « and » in it have something in common.

{lines}

Say in at most eight words what the marked words have in common. Answer with that phrase only."""

_DETECT = """Text: {text}

Is this text an example of "{name}"? Answer Yes or No."""


@dataclass(frozen=True)
class Detection:
    """Detection score of a name.

    Attributes:
        auc: probability that a context with activity is judged a better example of the name than one without; 0.5 is
            chance.
        n_activating, n_non_activating: held-out contexts of either kind.
        by: the model that judged.
    """

    auc: float
    n_activating: int
    n_non_activating: int
    by: str


def propose_name(chat_model: ChatModel, contexts: Sequence[Context]) -> str:
    """Ask a model for a name of what some contexts have in common.

    Raises:
        FeatureError: no context, or an empty proposal.
    """
    if not contexts:
        raise FeatureError("the latent fires in none of the texts; there is nothing to name it by")
    lines = "\n".join(f"{number}. {_marked_text(context)}" for number, context in enumerate(contexts, 1))
    completion = chat_model.complete(_PROPOSE.format(lines=lines), NAME_TOKENS)
    stripped = (line.strip(' ."“”*«»') for line in completion.splitlines())
    name = next((line for line in stripped if line), "")
    if not name:
        raise FeatureError(f"{chat_model.name} proposed no name; give one by hand, or ask another model")
    return name


def detection_score(chat_model: ChatModel, name: str, profile: LatentProfile) -> Detection:
    """Score a name by detection on contexts that it was not proposed from.

    Raises:
        FeatureError: no held-out contexts of either kind.
    """
    from sklearn.metrics import roc_auc_score

    activating, non_activating = scoring_contexts(profile), profile.non_activating
    if not activating or not non_activating:
        raise FeatureError(
            f"latent {profile.latent} has {len(activating)} held-out contexts in which it fires and "
            f"{len(non_activating)} in which it does not; detection needs both: give more text"
        )
    labels = [1] * len(activating) + [0] * len(non_activating)
    scores = [
        chat_model.choice_probabilities(_DETECT.format(text=_plain_text(context), name=name), ("Yes", "No"))[
            "Yes"
        ]
        for context in (*activating, *non_activating)
    ]
    auc = float(roc_auc_score(labels, scores))
    return Detection(auc, len(activating), len(non_activating), chat_model.name)


def proposal_contexts(profile: LatentProfile) -> list[Context]:
    """Contexts a name is proposed from: of all by descending activation, the first, third, fifth …"""
    return _one_context_per_question(profile)[::2]


def scoring_contexts(profile: LatentProfile) -> list[Context]:
    """Contexts a name is scored on: the second, fourth …; no question is in both halves."""
    return _one_context_per_question(profile)[1::2]


def _one_context_per_question(profile: LatentProfile) -> list[Context]:
    """For each question the context of the checkpoint with the largest activation, in descending order."""
    best: dict[tuple[str, str], Context] = {}
    for contexts in profile.contexts.values():
        for context in contexts:
            key = (context.family, context.id)
            if key not in best or context.peak_activation > best[key].peak_activation:
                best[key] = context
    return sorted(best.values(), key=lambda context: context.peak_activation, reverse=True)


def _marked_text(context: Context) -> str:
    """The text on one line, with « and » around runs of strong tokens."""
    threshold = MARKED_SHARE * context.peak_activation
    is_strong = [activation >= threshold for activation in context.activations]
    parts = []
    for index, token in enumerate(context.tokens):
        opens = is_strong[index] and (index == 0 or not is_strong[index - 1])
        closes = is_strong[index] and (index + 1 == len(is_strong) or not is_strong[index + 1])
        blank = token[: len(token) - len(token.lstrip())] if opens else ""
        parts.append(f"{blank}{'«' if opens else ''}{token[len(blank) :]}{'»' if closes else ''}")
    return " ".join("".join(parts).split())


def _plain_text(context: Context) -> str:
    """The text on one line."""
    return " ".join("".join(context.tokens).split())
