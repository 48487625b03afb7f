"""Where shipped artefacts lie: the ``checkpoints/`` folder of the clone, of the wheel, or of the user's choice."""

from __future__ import annotations

import os
from pathlib import Path

from personaprobe.errors import CheckpointError


def checkpoints_folder() -> Path:
    """The folder of organisms and features: ``PERSONAPROBE_CHECKPOINTS``, else the one that came with the package."""
    chosen = os.environ.get("PERSONAPROBE_CHECKPOINTS")
    package = Path(__file__).resolve().parents[1]
    places = [Path(chosen)] if chosen else [package / "checkpoints", package.parents[1] / "checkpoints"]
    for place in places:
        if place.is_dir():
            return place
    raise CheckpointError(
        f"no checkpoints folder at {' or '.join(map(str, places))}; "
        "set PERSONAPROBE_CHECKPOINTS to the folder that holds organisms.toml and features.toml"
    )
