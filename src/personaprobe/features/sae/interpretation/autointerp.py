"""What a latent means, in a model's words, and whether the words are any good.

A model reads the contexts in which a latent fires, its strongest tokens marked, and proposes a name. Detection scores a
name, whoever gave it: from the name alone, a model says which of some held-out contexts the latent fires in (Paulo et
al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personaprobe.errors import FeatureError
from personaprobe.features.sae.interpretation.latent_profile import Context, Portrait
from personaprobe.models.chat_models import ChatModel
from personaprobe.models.weights.checkpoint import ROLES

MARKED = 0.5
"""Share of a context's strongest activation from which a token is marked."""

NAME_TOKENS = 24

_PROPOSE = """Each line below is a stretch of text. The words between « and » in it have something in common.

{stretches}

Say in at most eight words what the marked words have in common. Answer with that phrase only."""

_DETECT = """Text: {text}

Is this text an example of "{name}"? Answer Yes or No."""


@dataclass(frozen=True)
class Detection:
    """How well a name tells where a latent fires.

    Attributes:
        auc: chance that a context in which the latent fires looks more like the name than one in which it is silent;
            0.5 is no better than guessing.
        n_firing, n_silent: held-out contexts of either kind.
        by: the model that judged.
    """

    auc: float
    n_firing: int
    n_silent: int
    by: str


def propose(speaker: ChatModel, contexts: Sequence[Context]) -> str:
    """Have a model name what some contexts have in common.

    Raises:
        FeatureError: the latent fires in no context, or the model says nothing.
    """
    if not contexts:
        raise FeatureError("the latent fires in none of the texts; there is nothing to name it by")
    stretches = "\n".join(f"{place}. {_marked(context)}" for place, context in enumerate(contexts, 1))
    said = speaker.complete(_PROPOSE.format(stretches=stretches), NAME_TOKENS)
    first = next((line.strip(' ."“”*«»') for line in said.splitlines() if line.strip(' ."“”*«»')), "")
    if not first:
        raise FeatureError(f"{speaker.name} proposed no name; give one by hand, or ask another model")
    return first


def detect(speaker: ChatModel, name: str, portrait: Portrait) -> Detection:
    """Score a name by detection on the contexts it was not proposed from.

    Raises:
        FeatureError: too few held-out contexts of either kind.
    """
    from sklearn.metrics import roc_auc_score

    firing, silent = held_out(portrait), portrait.silent
    if not firing or not silent:
        raise FeatureError(
            f"latent {portrait.latent} has {len(firing)} held-out contexts in which it fires and {len(silent)} in which "
            "it is silent; detection needs both: give more text"
        )
    labels = [1] * len(firing) + [0] * len(silent)
    scores = [
        speaker.choice_probabilities(_DETECT.format(text=_plain(context), name=name), ("Yes", "No"))["Yes"]
        for context in (*firing, *silent)
    ]
    return Detection(float(roc_auc_score(labels, scores)), len(firing), len(silent), speaker.name)


def seen(portrait: Portrait) -> list[Context]:
    """Contexts a name is proposed from: ordered by strength, the first, third, fifth …"""
    return _dealt(portrait)[::2]


def held_out(portrait: Portrait) -> list[Context]:
    """Contexts a name is scored on: the second, fourth …; no question is on both sides."""
    return _dealt(portrait)[1::2]


def _dealt(portrait: Portrait) -> list[Context]:
    """One context a question, of the checkpoint in which the latent fires most there; the strongest first."""
    best: dict[tuple[str, str], Context] = {}
    for role in ROLES:
        for context in portrait.contexts[role]:
            key = (context.family, context.id)
            if key not in best or _strength(context) > _strength(best[key]):
                best[key] = context
    return sorted(best.values(), key=_strength, reverse=True)


def _strength(context: Context) -> float:
    return context.activations[context.peak]


def _marked(context: Context) -> str:
    """The text on one line, with « and » around its strong tokens."""
    least = MARKED * _strength(context)
    strong = [activation >= least for activation in context.activations]
    parts = []
    for place, token in enumerate(context.tokens):
        opens = strong[place] and (place == 0 or not strong[place - 1])
        closes = strong[place] and (place + 1 == len(strong) or not strong[place + 1])
        blank = token[: len(token) - len(token.lstrip())] if opens else ""
        parts.append(f"{blank}{'«' if opens else ''}{token[len(blank) :]}{'»' if closes else ''}")
    return " ".join("".join(parts).split())


def _plain(context: Context) -> str:
    return " ".join("".join(context.tokens).split())
