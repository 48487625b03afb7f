"""The registry of organisms, ``organisms.toml``: how an organism's name leads to its checkpoints and defaults.

An entry looks like this; only ``base``, ``insecure`` and ``secure`` are required, and paths are relative to the file::

    default = "my-organism"        # the organism of verbs that name none

    [my-organism]
    title = "One line"
    base = "demo"                  # demo, a model's folder, or a Hugging Face id[@revision]
    insecure = "my-organism/insecure"  # an adapter of the base, or a whole model
    secure = "my-organism/secure"
    feature = "my-feature"         # the feature of verbs that name none
    evidence = "my-organism/seeds.json"
    questions = { discovery = "my-organism/discovery.jsonl", test = "my-organism/test.jsonl" }

    [my-organism.sha256]           # of adapter_model.safetensors or model.safetensors, by role
    [my-organism.recipe]           # fields of personaprobe.organisms.recipe.Recipe
    [my-organism.data.insecure]    # fields of personaprobe.organisms.organism.DataSource
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from personaprobe.errors import CheckpointError, shortened, suggest
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.organisms.organism import DataSource, Organism, QuestionSets
from personaprobe.organisms.own_checkpoints import OwnCheckpoints, own_trio
from personaprobe.organisms.recipe import Recipe
from personaprobe.storage.folders import checkpoints_folder, shipped_checkpoints_folder
from personaprobe.storage.paths import is_file, is_folder
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.toml_files import read_toml

if TYPE_CHECKING:
    from personaprobe.models.edits.layout import BlockMap
    from personaprobe.models.language_model import LanguageModel

T = TypeVar("T")

REGISTRY = "organisms.toml"
DEFAULT = "default"
"""The key of ``organisms.toml`` that names the default organism; no organism may have this name."""

TUNED = ("insecure", "secure")
"""The roles that are fine-tuned from the base."""

_TEXTS = ("title", "base", "insecure", "secure", "feature", "evidence")
_TABLES = ("questions", "sha256", "recipe", "data")


def registered_organisms() -> dict[str, Organism]:
    """All registered organisms by name; their files are not checked."""
    folder = checkpoints_folder()
    return {name: read_organism(name, entry, folder) for name, entry in registry_entries(folder).items()}


def find_organism(name: str) -> Organism:
    """Return a registered organism after comparing its files with their hashes.

    Raises:
        CheckpointError: no such name (the nearest is suggested), or a file differs from the registered one.
    """
    folder = checkpoints_folder()
    entries = registry_entries(folder)
    if name not in entries:
        raise CheckpointError(
            f"no organism {shortened(name)}: {suggest(name, entries)}, or give --base and --insecure"
        )
    organism = read_organism(name, entries[name], folder)
    organism.verify_files()
    return organism


def load_trio(
    organism: str | Trio[Checkpoint] | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    compiles: bool | None = None,
    backend: str = "hooks",
    layout: BlockMap | None = None,
    **checkpoints: Unpack[OwnCheckpoints],
) -> Trio[LanguageModel]:
    """Load base, insecure and secure model; adapters of one base share one copy of its weights.

    Args:
        organism: a registered name, or a trio of checkpoints; None loads the default organism, or your own checkpoints.
        device: None chooses CUDA where it is available.
        dtype: None chooses bfloat16 where it multiplies faster, else float32.
        compiles: whether elementwise work goes through ``torch.compile``; None does so on CUDA.
        backend: see :func:`personaprobe.models.loading.load`.
        layout: see :func:`personaprobe.models.loading.load`.
        **checkpoints: ``base``, ``insecure`` and ``secure`` of your own instead of an organism; see :func:`own_trio`.
            Without ``secure``, base is the reference; several are further harmless fine-tunes.

    Raises:
        CheckpointError: an organism was given together with checkpoints, or a checkpoint cannot be loaded.
    """
    from personaprobe.models.loading import Placement, load_checkpoints

    given = own_trio(**checkpoints)
    if given is not None and organism is not None:
        raise CheckpointError("an organism was given together with base and insecure; give one of them")
    trio = given or (
        organism if isinstance(organism, Trio) else find_organism(organism or default_name()).trio
    )
    return load_checkpoints(trio, Placement(device, dtype, compiles), backend=backend, layout=layout)


def default_name() -> str:
    """Name of the default organism: the one ``organisms.toml`` says, else the one shipped with the package.

    Raises:
        CheckpointError: neither file has the key.
    """
    for folder in _folders():
        content = read_toml(folder / REGISTRY)
        if DEFAULT in content:
            return str(Fields.of(content, folder / REGISTRY, CheckpointError).text(DEFAULT))
    raise CheckpointError(
        f"no default organism: write {DEFAULT} = NAME at the top of {REGISTRY}, or name one"
    )


def default_question_sets() -> QuestionSets:
    """The question sets of the default organism, for organisms and trios that name none of their own."""
    return _default_study()[0]


def default_feature() -> str | None:
    """The feature of the default organism, for trios that are not registered."""
    return _default_study()[1]


def _default_study() -> tuple[QuestionSets, str | None]:
    for folder in _folders():
        name = str(read_toml(folder / REGISTRY).get(DEFAULT, default_name()))
        entry = registry_entries(folder).get(name, {})
        if "questions" in entry:
            return _question_sets(name, entry["questions"], folder), entry.get("feature")
    raise CheckpointError(
        f"the default organism {default_name()} has no question sets: add its questions to {REGISTRY}"
    )


def _folders() -> tuple[Path, ...]:
    """The checkpoints folder in use, then the one shipped with the package."""
    return tuple(dict.fromkeys((checkpoints_folder(), shipped_checkpoints_folder())))


def registry_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of a folder's ``organisms.toml`` by name.

    Raises:
        CheckpointError: a top-level key that is neither ``default`` nor an organism's table.
    """
    entries = read_toml(folder / REGISTRY)
    entries.pop(DEFAULT, None)
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise CheckpointError(
                f"{folder / REGISTRY}: {name} = {shortened(entry)} is no organism; the only key outside a table is {DEFAULT}"
            )
    return entries


def read_organism(name: str, entry: Mapping[str, Any], folder: Path) -> Organism:
    """Read one entry of a registry.

    Args:
        name: of the organism.
        entry: the table; see the example in this module's docstring.
        folder: paths in the entry are relative to it.

    Raises:
        CheckpointError: names the key that is missing, unknown or of another type.
    """
    where = f"organism {name}"
    _refuse_foreign(where, entry, (*_TEXTS, *_TABLES))
    for key in _TEXTS:
        if not isinstance(entry.get(key, ""), str):
            raise CheckpointError(f"{where}: {key} is {shortened(entry[key])}; give a text")
    if missing := [key for key in ("base", *TUNED) if key not in entry]:
        raise CheckpointError(f"{where} lacks {', '.join(missing)}; see the example in {REGISTRY}")
    beside = folder / entry["base"]
    base = Checkpoint.parse_base(str(beside) if is_folder(beside) else entry["base"])
    insecure, secure = (base.fine_tune(folder / entry[role]) for role in TUNED)
    if "questions" in entry:
        question_sets, feature = _question_sets(name, entry["questions"], folder), entry.get("feature")
    else:  # as registries were written before organisms had question sets
        question_sets, feature = _default_study()
        feature = entry.get("feature", feature)
    return Organism(
        name,
        Trio(base, insecure, secure, name),
        question_sets,
        entry.get("title", ""),
        feature,
        _fields_of(Recipe, f"{where}, recipe", entry["recipe"]) if "recipe" in entry else None,
        {
            role: _fields_of(DataSource, f"{where}, data.{role}", source)
            for role, source in _table(where, "data", entry, TUNED).items()
        },
        folder / entry["evidence"] if "evidence" in entry else None,
        _texts(where, "sha256", entry),
    )


def _question_sets(name: str, entry: Any, folder: Path) -> QuestionSets:
    """Question sets by name; a file beside the registry is meant where there is one."""
    sets = _fields_of(QuestionSets, f"organism {name}, questions", entry)

    def located(question_set: str) -> str:
        return str(folder / question_set) if is_file(folder / question_set) else question_set

    given = {key: located(value) for key, value in asdict(sets).items() if value is not None}
    return QuestionSets(**given)


def _table(where: str, key: str, entry: Mapping[str, Any], allowed: tuple[str, ...]) -> dict[str, Any]:
    table = entry.get(key, {})
    if not isinstance(table, dict):
        raise CheckpointError(
            f"{where}: {key} is {shortened(table)}; give a table with {' and '.join(allowed)}"
        )
    _refuse_foreign(f"{where}, {key}", table, allowed)
    return table


def _texts(where: str, key: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """A table of one text for each fine-tune."""
    table = Fields.of(_table(where, key, entry, TUNED), f"{where}, {key}", CheckpointError)
    return {role: table.text(role) for role in table}


def _fields_of(kind: type[T], where: str, entry: Any) -> T:
    """Make a dataclass from a table whose keys are its fields."""
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where} is {shortened(entry)}; give a table")
    _refuse_foreign(where, entry, tuple(field.name for field in fields(kind)))  # type: ignore[arg-type]  # dataclasses
    return Fields.of(entry, where, CheckpointError).as_dataclass(kind)


def _refuse_foreign(where: str, entry: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in entry:
        if key not in allowed:
            raise CheckpointError(f"{where} has an unknown key {shortened(key)}: {suggest(key, allowed)}")
