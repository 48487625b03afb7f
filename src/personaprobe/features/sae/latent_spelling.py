"""The spelling of latents: ``sae:NAME/812,77``, or bare numbers where the dictionary is known."""

from __future__ import annotations

import re
from collections.abc import Sequence

from personaprobe.errors import FeatureError, shortened
from personaprobe.features.sae.catalog import default_dictionary, find_dictionary
from personaprobe.features.sae.dictionary import Dictionary

_SPELLING = re.compile(r"(?:sae:(?P<name>.+)/)?(?P<latents>[0-9]{1,9}(?:,[0-9]{1,9})*)")


def match_latents(text: str) -> tuple[str | None, tuple[int, ...]] | None:
    """As :func:`parse_latents`; None where the text is no spelling of latents."""
    match = _SPELLING.fullmatch(text)
    if match is None:
        return None
    return match["name"], tuple(int(number) for number in match["latents"].split(","))


def parse_latents(spelling: str) -> tuple[str | None, tuple[int, ...]]:
    """The dictionary's name, None for bare numbers, and the latents.

    Raises:
        FeatureError: another spelling.

    Examples:
        >>> parse_latents("sae:advice-21/812,77")
        ('advice-21', (812, 77))
        >>> parse_latents("812")
        (None, (812,))
    """
    latents = match_latents(spelling)
    if latents is None:
        raise FeatureError(
            f"cannot read the latents {shortened(spelling)}: write sae:NAME/812,77, or numbers such as 812"
        )
    return latents


def find_latents(spellings: Sequence[str], sae: str | None = None) -> tuple[Dictionary, list[int]]:
    """The dictionary and the latents of several spellings.

    Args:
        spellings: of latents; none leaves the choice of latents to the caller.
        sae: the dictionary of bare numbers; None is the shipped one.

    Raises:
        FeatureError: another spelling, latents of several dictionaries, or a latent that does not exist.
    """
    parsed = [parse_latents(spelling) for spelling in spellings]
    names = dict.fromkeys(name for name in (sae, *(name for name, _ in parsed)) if name is not None)
    if len(names) > 1:
        raise FeatureError(f"latents of one dictionary at a time; these are of {' and '.join(names)}")
    [name] = names or [None]
    dictionary = default_dictionary() if name is None else find_dictionary(name)
    latents = [latent for _, group in parsed for latent in group]
    return dictionary, dictionary.check(latents) if latents else []
