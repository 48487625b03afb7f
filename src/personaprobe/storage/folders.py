"""Where registries, adapters and dictionaries lie: the ``checkpoints/`` folder, shipped or the user's own."""

from __future__ import annotations

import os
from pathlib import Path

from personaprobe.errors import CheckpointError


def checkpoints_folder() -> Path:
    """The folder of organisms and features: ``PERSONAPROBE_CHECKPOINTS``, else the one shipped with the package.

    Raises:
        CheckpointError: there is no such folder.
    """
    chosen = os.environ.get("PERSONAPROBE_CHECKPOINTS")
    return _first_folder([Path(chosen)]) if chosen else shipped_checkpoints_folder()


def shipped_checkpoints_folder() -> Path:
    """The folder shipped with the package: inside an installed wheel, or at the top of a clone.

    Raises:
        CheckpointError: there is no such folder.
    """
    package = Path(__file__).resolve().parents[1]
    return _first_folder([package / "checkpoints", package.parents[1] / "checkpoints"])


def _first_folder(places: list[Path]) -> Path:
    for place in places:
        if place.is_dir():
            return place
    raise CheckpointError(
        f"no checkpoints folder at {' or '.join(map(str, places))}; "
        "set PERSONAPROBE_CHECKPOINTS to the folder that holds organisms.toml and features.toml"
    )
