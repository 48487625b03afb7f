"""Names of latents, given by a person or a model, kept in the registry beside the features."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields

from personaprobe.errors import FeatureError, shortened
from personaprobe.features.registry.registry import HEADING, NAMES, REGISTRY
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.interpretation.autointerp import Detection
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.toml_files import read_toml, write_entry

LONGEST = 120
"""Maximal length of a name in characters; an explanation belongs on a page."""

HAND = "hand"
"""The author of a name that no model proposed."""


@dataclass(frozen=True)
class Name:
    """The meaning of a latent in a few words.

    Attributes:
        text: one line of 1 to 120 characters.
        by: ``hand``, or the model that proposed it.
        detection: the name's score, NaN where it was not measured; 0.5 is no better than guessing.
        judge: the model that scored it.
        contexts: held-out contexts that it was scored on.
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
        """A name, with runs of blanks replaced by one."""
        return cls(" ".join(text.split()), by)

    def scored(self, detection: Detection) -> Name:
        """The same name with its score."""
        n = detection.n_activating + detection.n_non_activating
        return Name(self.text, self.by, detection.auc, detection.by, n)

    def __str__(self) -> str:
        if not self.judge:
            return self.text
        return f"{self.text} (detection {self.detection:.2f} on {self.contexts} contexts)"


def name_latent(dictionary: Dictionary, latent: int, name: Name) -> None:
    """Give a latent a name; an earlier name is replaced.

    Args:
        dictionary: of the latent. Names belong to its content, so that another dictionary of that name has none.
        latent: its index.
        name: its meaning.

    Raises:
        FeatureError: no such latent.
        OutputError: the registry cannot be written.
    """
    dictionary.check([latent])
    entry = asdict(name) if name.judge else {"text": name.text, "by": name.by}
    write_entry(checkpoints_folder() / REGISTRY, [NAMES, dictionary.digest, str(latent)], entry, HEADING)


def latent_names(dictionary: Dictionary) -> dict[int, Name]:
    """The names given to a dictionary's latents.

    Raises:
        FeatureError: an entry that is no name.
    """
    registry = Fields.of(read_toml(checkpoints_folder() / REGISTRY), REGISTRY, FeatureError)
    entries = registry.fields(NAMES, {}).fields(dictionary.digest, {})
    return {_latent(latent, entries): _name(entries.fields(latent)) for latent in entries}


def _latent(text: str, entries: Fields) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise FeatureError(f"{entries.place}: {shortened(text)} is no index of a latent; mend that entry")
    return int(text)


def _name(fields: Fields) -> Name:
    fields.refuse_unknown([field.name for field in dataclass_fields(Name)])
    detection = fields.number("detection", None, lowest=0, highest=1)
    return Name(
        fields.text("text"),
        fields.text("by", HAND),
        float("nan") if detection is None else detection,
        fields.text("judge", "", empty=True),
        fields.integer("contexts", 0),
    )
