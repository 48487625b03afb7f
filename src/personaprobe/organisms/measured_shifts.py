"""Shifts of organisms as a gallery measured them, for lists of what there is."""

from __future__ import annotations

from collections.abc import Mapping

from personaprobe.errors import CheckpointError
from personaprobe.statistics.intervals import Interval
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.paths import is_file
from personaprobe.storage.readers.json_files import read_json_object

GALLERY = "gallery.json"
"""In the folder of the registry, as ``organisms gallery`` writes it."""


def measured_shifts() -> Mapping[str, Mapping[str, Interval]]:
    """Insecure − secure preference for careless answers by organism and question set, none without a gallery.

    Raises:
        CheckpointError: the file is not what a gallery writes.
    """
    path = checkpoints_folder() / GALLERY
    if not is_file(path):
        return {}
    content = read_json_object(path, CheckpointError)
    try:
        return {
            str(member["name"]): {
                str(questions): Interval.from_dict(interval)
                for questions, interval in member["shifts"].items()
            }
            for member in content["members"]
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no gallery; write it again with: personaprobe organisms gallery"
        ) from error
