"""``personaprobe organisms register`` and ``remove``: entries of ``organisms.toml``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.completions import organism_names
from personaprobe.cli.options import NONE, device_option, dtype_option, output_options
from personaprobe.cli.terminal.console import print_json, print_line, spinner

if TYPE_CHECKING:
    from personaprobe.models.loading import Placement
    from personaprobe.organisms.organism import Organism
    from personaprobe.organisms.verification import OrganismCheck


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--name", help="Lower-case words joined by hyphens.  [default: of organism.toml, or of the folder]"
)
@click.option(
    "--base", help="demo, a folder, or a Hugging Face id[@revision].  [default: of the folder's files]"
)
@click.option("--replace", is_flag=True, help="Replace an organism of the same name.")
@device_option
@dtype_option
@output_options
def register(
    folder: Path,
    name: str | None,
    base: str | None,
    replace: bool,
    device: str | None,
    dtype: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Verify the organism in FOLDER and write it to organisms.toml, with the hashes of its weights.

    FOLDER holds insecure/ and secure/, LoRA adapters of one base or whole models. An organism.toml in it may name the title,
    base, question sets, feature, recipe, data and evidence; see the documentation. The files stay where they are.

    \b
    Example:
      personaprobe organisms register runs/seed-1 --name my-organism
    """
    from personaprobe.models.loading import Placement

    organism, checks, path = register_folder(
        folder, Placement(device, dtype), name=name, base=base, replace=replace, quiet=quiet
    )
    sets = organism.question_sets
    if as_json:
        result = {"name": organism.name, "registry": str(path), "question_sets": asdict(sets)}
        print_json(result | {"checks": list(map(asdict, checks))})
        return
    print_line(f"{len(checks)} checks passed; {organism.name} is registered in {path}")
    print_line(
        f"Discovery questions: {sets.discovery}; test questions: {sets.test}; feature: {organism.feature or NONE}"
    )


def register_folder(
    folder: Path,
    placement: Placement,
    *,
    name: str | None = None,
    base: str | None = None,
    replace: bool = False,
    quiet: bool = False,
) -> tuple[Organism, Sequence[OrganismCheck], Path]:
    """Verify the organism in a folder and write it to the registry.

    Returns:
        The organism, the checks that it passed, and the registry.

    Raises:
        CheckpointError: the name is taken, a file is missing, or a check failed.
    """
    from personaprobe.effects.targets.feature import find_feature
    from personaprobe.errors import CheckpointError
    from personaprobe.organisms.registration import read_organism_folder, refuse_taken, register_organism
    from personaprobe.organisms.verification import verify_organism

    organism = read_organism_folder(folder, name, base)
    if not replace:
        refuse_taken(organism.name)
    if organism.feature is not None:
        find_feature(organism.feature)
    with spinner(f"verifying {organism.name}", quiet):
        checks = verify_organism(organism, placement)
    if failed := [f"{check.name} ({check.detail})" for check in checks if not check.passed]:
        raise CheckpointError(
            f"organism {organism.name} is not registered, since checks failed: {'; '.join(failed)}"
        )
    return organism, checks, register_organism(organism, replace=replace)


@click.command()
@click.argument("name", shell_complete=organism_names)
def remove(name: str) -> None:
    """Remove an organism from organisms.toml. Its files stay, and so do features that were found in it."""
    from personaprobe.organisms.registration import remove_organism
    from personaprobe.organisms.registry import registered_organisms

    organism = registered_organisms().get(name)
    was_default = remove_organism(name)
    print_line(f"{name} is removed; its files stay")
    if was_default:
        print_line("It was the default organism; the registry names none now.")
    if organism is not None and (features := _features_found_on(organism.question_sets.discovery)):
        print_line(f"Features found on its discovery questions stay registered: {', '.join(features)}")


def _features_found_on(discovery: str) -> list[str]:
    """Registered features whose evidence was measured on a set of discovery questions."""
    from personaprobe.errors import FeatureError
    from personaprobe.features.registry.registry import read_evidence, registered

    names = []
    for name, entry in registered().items():
        with suppress(FeatureError):  # `personaprobe features` says what is wrong with an entry
            questions = read_evidence(entry).get("questions")
            if isinstance(questions, dict) and questions.get("name") == discovery:
                names.append(name)
    return names
