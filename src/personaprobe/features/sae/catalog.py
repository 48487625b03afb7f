"""Dictionaries by name: shipped ones, folders, and releases known to SAELens."""

from __future__ import annotations

import re
from pathlib import Path

from personaprobe.compute.out_of_memory import refuse_out_of_memory
from personaprobe.errors import FeatureError, shortened, suggest
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
from personaprobe.features.sae.row_layout import row_layout
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.paths import is_folder, user_path

SAES = "saes"
_RELEASE = re.compile(r"saelens:(?P<release>[^:]+):(?P<id>.+)")


def shipped_dictionaries() -> dict[str, Path]:
    """Folders under ``checkpoints/saes``, by name."""
    folder = checkpoints_folder() / SAES
    configs = sorted(folder.glob("*/cfg.json")) if folder.is_dir() else []
    return {path.parent.name: path.parent for path in configs}


def find_dictionary(name: str) -> Dictionary:
    """Load a dictionary by a shipped name, a folder, or ``saelens:RELEASE:ID`` (which needs the network).

    Raises:
        FeatureError: none of these, or it cannot be read.
    """
    shipped = shipped_dictionaries()
    if name in shipped:
        return load_dictionary(shipped[name])
    if (release := _RELEASE.fullmatch(name)) is not None:
        return _from_saelens(release["release"], release["id"])
    if is_folder(user_path(name, FeatureError)):
        return load_dictionary(name)
    raise FeatureError(
        f"no dictionary {shortened(name)}: {suggest(name, tuple(shipped))}, an existing folder, or saelens:RELEASE:ID"
    )


def default_dictionary() -> Dictionary:
    """The shipped dictionary of single activations.

    Raises:
        FeatureError: none is shipped, or more than one.
    """
    shipped = [find_dictionary(name) for name in shipped_dictionaries()]
    single = [dictionary for dictionary in shipped if row_layout(dictionary) == "mixed"]
    if len(single) != 1:
        listed = ", ".join(dictionary.name for dictionary in single) or "none is shipped"
        raise FeatureError(f"say which dictionary with --sae: {listed}, a folder, or saelens:RELEASE:ID")
    return single[0]


def _from_saelens(release: str, sae_id: str) -> Dictionary:
    """Download a release with SAELens, and read it from the folder that SAELens saves."""
    import tempfile

    from sae_lens import SAE

    try:
        sae = SAE.from_pretrained(release, sae_id, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            sae.save_model(folder)
            return load_dictionary(folder)
    except FeatureError:
        raise
    except Exception as error:  # of the network, the hub or SAELens, all about this release
        refuse_out_of_memory(error)
        reason = " ".join(str(error).split())[:200]
        raise FeatureError(f"SAELens cannot load {sae_id} of {release}: {reason}") from error
