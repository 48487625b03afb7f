"""Names of latents: what a person, or a model, says they mean; kept in the registry beside the features."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from personaprobe.errors import FeatureError
from personaprobe.features.registry.registration import HEADING
from personaprobe.features.registry.registry import NAMES, REGISTRY
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.interpretation.autointerp import Detection
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.toml_files import read_toml, write_entry

LONGEST = 120
"""Characters of a name; an explanation belongs on a page."""

HAND = "hand"
"""Who gave a name that no model proposed."""


@dataclass(frozen=True)
class Name:
    """What somebody says a latent means.

    Attributes:
        text: one line of 1 to 120 characters.
        by: ``hand``, or the model that proposed it.
        detection: the name's score, nan where nobody measured it; 0.5 is no better than guessing.
        judge: the model that scored it.
        contexts: held-out ones it was scored on.
    """

    text: str
    by: str = HAND
    detection: float = float("nan")
    judge: str = ""
    contexts: int = 0

    def __post_init__(self) -> None:
        if not self.text or len(self.text) > LONGEST or self.text != " ".join(self.text.split()):
            raise FeatureError(
                f"a name of {len(self.text)} characters; give 1 to {LONGEST} in one line without needless blanks"
            )

    @classmethod
    def of(cls, text: str, by: str = HAND) -> Name:
        """A name with its blanks made single."""
        return cls(" ".join(text.split()), by)

    def scored(self, detection: Detection) -> Name:
        """The same with its score."""
        n = detection.n_activating + detection.n_non_activating
        return Name(self.text, self.by, detection.auc, detection.by, n)

    def __str__(self) -> str:
        if not self.judge:
            return self.text
        return f"{self.text} (detection {self.detection:.2f} on {self.contexts} contexts)"


def name_latent(dictionary: Dictionary, latent: int, name: Name) -> None:
    """Say what a latent means; an earlier name is replaced.

    Args:
        dictionary: its own; names are kept by the dictionary's content, so that another one of that name has none.
        latent: its index.
        name: what it means.

    Raises:
        FeatureError: no such latent.
        OutputError: the registry cannot be written.
    """
    dictionary.check([latent])
    entry = asdict(name) if name.judge else {"text": name.text, "by": name.by}
    write_entry(checkpoints_folder() / REGISTRY, [NAMES, dictionary.digest, str(latent)], entry, HEADING)


def latent_names(dictionary: Dictionary) -> dict[int, Name]:
    """The names given to a dictionary's latents."""
    entries = read_toml(checkpoints_folder() / REGISTRY)
    return {
        int(latent): Name(**said)
        for latent, said in entries.get(NAMES, {}).get(dictionary.digest, {}).items()
    }
