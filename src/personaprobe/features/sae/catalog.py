"""Dictionaries by name: shipped ones, folders, and releases that SAELens knows."""

from __future__ import annotations

import re
from pathlib import Path

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats import load
from personaprobe.storage.folders import checkpoints_folder

SAES = "saes"
_RELEASE = re.compile(r"saelens:(?P<release>[^:]+):(?P<id>.+)")


def shipped() -> dict[str, Path]:
    """Folders under ``checkpoints/saes``, by name."""
    folder = checkpoints_folder() / SAES
    found = sorted(folder.glob("*/cfg.json")) if folder.is_dir() else []
    return {path.parent.name: path.parent for path in found}


def find_dictionary(name: str) -> Dictionary:
    """Load a dictionary: a shipped name, a folder, or ``saelens:RELEASE:ID`` (which needs the network).

    Raises:
        FeatureError: none of these, or it cannot be read.
    """
    known = shipped()
    if name in known:
        return load(known[name])
    if (released := _RELEASE.fullmatch(name)) is not None:
        return _release(released["release"], released["id"])
    if Path(name).expanduser().is_dir():
        return load(name)
    raise FeatureError(
        f"no dictionary {name!r}: {suggest(name, tuple(known))}, an existing folder, or saelens:RELEASE:ID"
    )


def _release(release: str, sae_id: str) -> Dictionary:
    """Have SAELens fetch a release, and read it from the folder it saves."""
    import tempfile

    from sae_lens import SAE

    try:
        found = SAE.from_pretrained(release, sae_id, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            found.save_model(folder)
            return load(folder)
    except FeatureError:
        raise
    except Exception as error:  # of the network, the hub or SAELens, all about this release
        reason = " ".join(str(error).split())[:200]
        raise FeatureError(f"SAELens cannot load {sae_id} of {release}: {reason}") from error
