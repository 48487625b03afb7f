"""Names of latents: proposed by a model, scored by detection, and kept in the registry."""

from __future__ import annotations

from collections.abc import Sequence

from personaprobe.features.registry.latent_names import HAND, LONGEST, Name, latent_names, name_latent
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.interpretation.autointerp import (
    detection_score,
    proposal_contexts,
    propose_name,
)
from personaprobe.features.sae.interpretation.latent_profile import LatentProfile
from personaprobe.models.chat_models import ChatModel
from personaprobe.progress import Advance, no_advance


def name_latents(
    dictionary: Dictionary,
    profiles: Sequence[LatentProfile],
    chat_model: ChatModel,
    advance: Advance = no_advance,
) -> dict[int, Name]:
    """Name latents, score the names by detection, and write them to the registry.

    A name given by hand is kept, and scored. Every other name is proposed anew.

    Args:
        dictionary: of the latents.
        profiles: with contexts, half of which propose and half of which score.
        chat_model: proposes and judges.
        advance: called after each latent.

    Returns:
        The names by latent.

    Raises:
        FeatureError: too few contexts, or an empty proposal.
        OutputError: the registry cannot be written.
    """
    names = {}
    for profile in profiles:
        name = latent_names(dictionary).get(profile.latent)
        if name is None or name.by != HAND:
            proposal = _printable(propose_name(chat_model, proposal_contexts(profile)))
            name = Name.of(proposal[:LONGEST].strip(), chat_model.name)
        name = name.scored(detection_score(chat_model, name.text, profile))
        name_latent(dictionary, profile.latent, name)
        names[profile.latent] = name
        advance(1)
    return names


def _printable(text: str) -> str:
    """Text of a model without control characters, which a terminal would obey."""
    return "".join(character for character in text if character == "\n" or character.isprintable())
