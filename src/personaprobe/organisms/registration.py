"""Registration of an organism: from a folder with two fine-tunes to an entry of ``organisms.toml``, and back.

The folder holds ``insecure/`` and ``secure/``: PEFT adapters of one base, or whole models in one file each, as
``personaprobe organisms train``, PEFT or transformers write them. An ``organism.toml`` beside them may hold the keys of a
registry entry (see :mod:`personaprobe.organisms.registry`) and ``name``; its paths are relative to the folder. Where it
names no base, recipe or data, they are read from ``training.json`` and ``adapter_config.json`` beside the weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from personaprobe.errors import CheckpointError, one_line, shortened, suggest
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.packaged import packaged_by_hub_id
from personaprobe.models.weights.sources import MODEL_WEIGHTS, weights_in
from personaprobe.organisms.organism import CARD, DESCRIPTION, Organism
from personaprobe.organisms.registry import DEFAULT, REGISTRY, TUNED, read_organism, registry_entries
from personaprobe.questions.pairs import load_prompts
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.folders import checkpoints_folder
from personaprobe.storage.locks import locked
from personaprobe.storage.paths import absolute_path, is_file, is_folder, user_path
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.readers.json_files import read_json_object
from personaprobe.storage.toml_files import is_entry_name, read_toml, remove_entry, write_entry

HEADING = "Organisms by name. Paths are relative to this folder; sha256 are of the weights (*.safetensors)."
"""The first line of a new registry."""


def read_organism_folder(folder: Path, name: str | None = None, base: str | None = None) -> Organism:
    """Read the organism in a folder and hash the weights of its fine-tunes; nothing is loaded or registered.

    Args:
        folder: see the module's docstring.
        name: lower-case words joined by hyphens; None takes the one in ``organism.toml``, or the folder's.
        base: ``demo``, a folder or a Hugging Face id; None takes the one that the folder's files name.

    Raises:
        CheckpointError: the folder lacks a fine-tune, or its files do not say what they should; names file and key.
        DataError: a question set cannot be read, or discovery and test questions overlap.
    """
    folder = absolute_path(user_path(folder, CheckpointError), CheckpointError)
    if not is_folder(folder):
        raise CheckpointError(f"no folder at {one_line(folder)}; give a folder with insecure/ and secure/")
    description = read_toml(folder / DESCRIPTION)
    described = Fields.of(description, folder / DESCRIPTION, CheckpointError).text("name", folder.name)
    name = name or str(described)
    description.pop("name", None)
    refuse_misnamed(name)
    entry = {role: role for role in TUNED} | _from_cards(folder) | description
    if base is not None:
        entry["base"] = base
    for role in TUNED:
        place = folder / Fields.of(entry, folder / DESCRIPTION, CheckpointError).text(role)
        if not is_file(weights_in(place)):
            raise CheckpointError(
                f"{one_line(place)} holds no {WEIGHTS} or {MODEL_WEIGHTS}; {name} needs an adapter or a "
                f"whole model in one file for {role} there"
            )
    if "base" not in entry:
        raise CheckpointError(
            f"nothing in {folder} names the base; give --base, or write it to {DESCRIPTION}"
        )
    organism = replace(read_organism(name, entry, folder), feature=description.get("feature"))
    organism.verify_files()
    if organism.evidence is not None and not is_file(organism.evidence):
        raise CheckpointError(f"organism {name}: there is no evidence file {organism.evidence}")
    _refuse_unusable_questions(organism)
    hashes = {role: sha256_of(organism.trio[role].weights_file) for role in TUNED}
    return replace(organism, sha256=hashes)


def register_organism(organism: Organism, *, replace: bool = False) -> Path:
    """Write an organism to ``organisms.toml``; comments and other entries stay as they are.

    Args:
        organism: with the hashes of its fine-tunes; see :func:`read_organism_folder`. It is not verified here: see
            :func:`personaprobe.organisms.verification.verify_organism`.
        replace: whether an entry of the same name is replaced.

    Returns:
        The registry.

    Raises:
        CheckpointError: the name is taken.
        OutputError: the registry cannot be written; it stays as it was.
    """
    folder = checkpoints_folder()
    with locked(folder / REGISTRY):
        if not replace:
            refuse_taken(organism.name)
        write_entry(folder / REGISTRY, [organism.name], _entry(organism, folder), HEADING)
    return folder / REGISTRY


def remove_organism(name: str) -> bool:
    """Remove an organism from ``organisms.toml``; its files stay.

    Returns:
        Whether it was the registry's default organism, which is then named no longer.

    Raises:
        CheckpointError: no such entry.
        OutputError: the registry cannot be written; it stays as it was.
    """
    path = checkpoints_folder() / REGISTRY
    with locked(path):
        entries = registry_entries(path.parent)
        if name not in entries:
            raise CheckpointError(f"no organism {name!r} in {path}: {suggest(name, entries)}")
        was_default = read_toml(path).get(DEFAULT) == name
        if was_default:  # first: cut short between the two, the registry names no organism that it lacks
            remove_entry(path, [DEFAULT])
        remove_entry(path, [name])
    return was_default


def refuse_taken(name: str) -> None:
    """Raise where an organism of that name is registered."""
    path = checkpoints_folder() / REGISTRY
    if name in registry_entries(path.parent):
        raise CheckpointError(
            f"organism {name} is registered in {path}; choose another --name, or give --replace"
        )


def refuse_misnamed(name: str) -> None:
    """Raise where a name is not lower-case words joined by hyphens."""
    if not is_entry_name(name) or name == DEFAULT:
        raise CheckpointError(
            f"{name!r} cannot be the name of an organism; give --name lower-case words joined by hyphens"
        )


def _from_cards(folder: Path) -> dict[str, Any]:
    """Base, recipe and data, as far as both fine-tunes name the same base and recipe."""
    cards = {role: _read_json(folder / role / CARD) for role in TUNED}
    configs = [_read_json(folder / role / "adapter_config.json") for role in TUNED]
    bases = [_base_of(card, config) for card, config in zip(cards.values(), configs, strict=True)]
    recipes = [card.get("recipe") for card in cards.values()]
    entry: dict[str, Any] = {"data": {role: card["data"] for role, card in cards.items() if "data" in card}}
    if bases[0] and bases[0] == bases[1]:
        entry["base"] = bases[0]
    if recipes[0] and recipes[0] == recipes[1]:
        entry["recipe"] = recipes[0]
    return entry


def _base_of(card: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The base that a fine-tune was trained on, as users write it."""
    if "base" in card:
        described = Fields.of(card, CARD, CheckpointError).fields("base")
        source, revision = described.text("source"), described.content.get("revision")
        return f"{source}@{described.text('revision')}" if revision else str(source)
    base = config.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise CheckpointError(
            f"base_model_name_or_path of an adapter is {shortened(base)}; give a name or null"
        )
    packaged = None if base is None else packaged_by_hub_id(base)
    return base if packaged is None else packaged.source


def _read_json(path: Path) -> dict[str, Any]:
    return (
        read_json_object(path, CheckpointError, advice="restore or delete it", nonfinite=True)
        if is_file(path)
        else {}
    )


def _refuse_unusable_questions(organism: Organism) -> None:
    """Raise where a question set cannot be read, or where test questions are among those of discovery."""
    sets = organism.question_sets
    discovery = load_prompts(sets.discovery)
    load_prompts(sets.test).refuse_overlap(discovery)
    if sets.narrow is not None:
        load_prompts(sets.narrow)
    if sets.balanced is not None:
        load_prompts(sets.balanced).refuse_overlap(discovery)


def _entry(organism: Organism, folder: Path) -> dict[str, Any]:
    """An organism as an entry of the registry in a folder; what is empty is left out."""

    def located(path: Path) -> str:
        absolute = Path(os.path.abspath(path))
        home = absolute_path(folder, CheckpointError)
        return str(absolute.relative_to(home)) if absolute.is_relative_to(home) else str(absolute)

    source = organism.trio.base.source
    sets = {
        use: located(Path(name)) if is_file(name) else name
        for use, name in asdict(organism.question_sets).items()
        if name is not None
    }
    entry = {
        "title": organism.title,
        "base": located(Path(source)) if is_folder(source) else str(organism.trio.base),
        **{role: located(organism.trio[role].weights_file.parent) for role in TUNED},
        "feature": organism.feature,
        "evidence": None if organism.evidence is None else located(organism.evidence),
        "questions": sets,
        "sha256": dict(organism.sha256),
        "recipe": None if organism.recipe is None else asdict(organism.recipe),
        "data": {
            role: {key: value for key, value in asdict(source).items() if value not in ("", None)}
            for role, source in organism.data.items()
        },
    }
    return {key: value for key, value in entry.items() if value not in ("", None, {})}
