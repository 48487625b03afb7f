"""The shipped organisms: names for trios of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personaprobe.errors import CheckpointError, suggest
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.storage.files import sha256_of
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.toml_files import read_toml

REGISTRY = "organisms.toml"


@dataclass(frozen=True)
class Organism:
    """A registered organism.

    Attributes:
        name: what users write.
        title: one line about it.
        trio: its checkpoints.
        sha256: of the adapter weights, by role.
    """

    name: str
    title: str
    trio: Trio[Checkpoint]
    sha256: dict[str, str]

    def verify_files(self) -> None:
        """Raise where an adapter is missing or is not the one that was registered."""
        for role, wanted in self.sha256.items():
            adapter = self.trio[role].adapter
            weights = adapter / WEIGHTS if adapter else Path()
            found = sha256_of(weights) if weights.is_file() else "missing"
            if found != wanted:
                raise CheckpointError(
                    f"{role} of organism {self.name}: {weights} has sha256 {found[:12]}, registered as {wanted[:12]}; "
                    "restore the file (git checkout) or register the new one"
                )


def organisms() -> dict[str, Organism]:
    """All registered organisms by name."""
    folder = checkpoints_folder()
    return {name: _organism(name, entry, folder) for name, entry in read_toml(folder / REGISTRY).items()}


def _organism(name: str, entry: dict[str, object], folder: Path) -> Organism:
    base = Checkpoint.parse(str(entry["base"]))
    trio = Trio(
        base,
        base.with_adapter(folder / str(entry["insecure"])),
        base.with_adapter(folder / str(entry["secure"])),
        name,
    )
    hashes = entry.get("sha256", {})
    assert isinstance(hashes, dict), "sha256 is a table"
    return Organism(name, str(entry.get("title", "")), trio, {str(k): str(v) for k, v in hashes.items()})


def find_organism(name: str) -> Organism:
    """Look an organism up, its files checked.

    Raises:
        CheckpointError: not registered (the nearest name is suggested), or its files are not the registered ones.
    """
    known = organisms()
    if name not in known:
        raise CheckpointError(
            f"no organism {name!r}: {suggest(name, known)}, or give --base, --insecure and --secure"
        )
    known[name].verify_files()
    return known[name]
