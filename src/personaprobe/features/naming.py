"""Names of latents: what a person, or a model, says they mean; kept in the registry beside the features."""

from __future__ import annotations

from personaprobe.errors import FeatureError
from personaprobe.features.registration import write_entries
from personaprobe.features.registry import NAMES, REGISTRY
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.models.shelf import checkpoints_folder, read_toml

LONGEST = 120
"""Characters of a name; an explanation belongs on a page."""


def name_latent(dictionary: Dictionary, latent: int, name: str) -> str:
    """Say what a latent means; an earlier name is replaced.

    Args:
        dictionary: its own; names are kept by the dictionary's content, so that another one of that name has none.
        latent: its index.
        name: one line.

    Returns:
        The name as it is kept, in one line.

    Raises:
        FeatureError: no such latent, or no name.
        OutputError: the registry cannot be written.
    """
    dictionary.check([latent])
    said = " ".join(name.split())
    if not said or len(said) > LONGEST:
        raise FeatureError(f"a name of {len(said)} characters; give 1 to {LONGEST}")
    entries = read_toml(checkpoints_folder() / REGISTRY)
    names = entries.setdefault(NAMES, {}).setdefault(dictionary.digest, {})
    names[str(latent)] = said
    write_entries(entries)
    return said


def latent_names(dictionary: Dictionary) -> dict[int, str]:
    """The names given to a dictionary's latents."""
    entries = read_toml(checkpoints_folder() / REGISTRY)
    return {
        int(latent): str(name) for latent, name in entries.get(NAMES, {}).get(dictionary.digest, {}).items()
    }
