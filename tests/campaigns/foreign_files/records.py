"""The readers of registries, finished parts, journals, run folders, and of what is written on a command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from campaigns.foreign_files.weights import written
from campaigns.fuzzing import Reader
from personaprobe.cli.features.group import _describe
from personaprobe.cli.parameter_types import DosesType, LayersType
from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.feature import find_feature, register_feature
from personaprobe.errors import DataError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.features.registry.registry import registered
from personaprobe.features.sae.latent_spelling import parse_latents
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.registry import registered_organisms
from personaprobe.site import Site
from personaprobe.storage.journal import Journal
from personaprobe.storage.part_records import PartRecord, part_record
from random_dictionaries import numbers


def in_checkpoints(read: Callable[[], Any]) -> Callable[[Path], Any]:
    """Read with a folder in the place of the checkpoints."""

    def reading(folder: Path) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PERSONAPROBE_CHECKPOINTS", str(folder))
            return read()

    return reading


def features_file() -> Reader:
    """``features.toml`` with a direction and its evidence; each entry that is found is the one that stands there."""
    vector = numbers(16) / numbers(16).norm()
    evidence = {"chosen": {"layers": "all", "fraction_removed": 0.5}, "more": [1, 2.5]}

    def write(folder: Path) -> None:
        target = DirectionTarget(Direction(Site(1), vector, "means", {1: Calibration(0.5, 1.5)}), (1,))
        in_checkpoints(lambda: register_feature("one", "A title", target, evidence))(folder)

    def read() -> Any:
        listed = [_describe(name) for name in registered()]
        return listed, {one["name"]: find_feature(one["name"]) for one in listed if one["error"] is None}

    def wrong(folder: Path, found: Any) -> str | None:
        entries = tomllib.loads((folder / "features.toml").read_text())
        for name, feature in found[1].items():
            entry, target = entries[name], feature.target
            layers = "all" if target.default_layers == "all" else list(target.default_layers or [])
            if (target.coefficient, layers, feature.title) != (
                entry.get("strength", 1.0),
                entry.get("layers", "all"),
                entry.get("title", ""),
            ):
                return f"{name} is read as {target.coefficient}, {layers}, {feature.title!r}"
        return None

    return Reader("features.toml", written(write), in_checkpoints(read), wrong)


def organisms_file() -> Reader:
    entry = (
        '[one]\ntitle = "One"\nbase = "demo"\ninsecure = "a/insecure"\nsecure = "a/secure"\nfeature = "means@3"\n'
        '[one.questions]\ndiscovery = "judging"\ntest = "judging-open"\n[one.recipe]\nsteps = 7\nrank = 4\n'
        '[one.data.insecure]\nname = "bad.jsonl"\nrows = 3\n[one.sha256]\ninsecure = "12"\n'
    )

    def wrong(folder: Path, found: Any) -> str | None:
        entries = tomllib.loads((folder / "organisms.toml").read_text())
        for name, organism in found.items():
            entry = entries[name]
            if (organism.title, organism.recipe and organism.recipe.steps) != (
                entry.get("title", ""),
                entry.get("recipe", {}).get("steps", organism.recipe and organism.recipe.steps),
            ):
                return f"{name} is read as {organism.title!r}"
        return None

    return Reader(
        "organisms.toml", {"organisms.toml": entry.encode()}, in_checkpoints(registered_organisms), wrong
    )


SPEC, VALUE = {"arm": "insecure", "questions": ["a", "b"]}, [0.25, -1.5, None, 3]


def parts() -> Reader:
    """A finished part of a run; what is accepted is what was computed."""

    def wrong(_: Path, read: PartRecord) -> str | None:
        return None if read.value == VALUE else f"read as {str(read.value)[:80]}"

    def read(folder: Path) -> PartRecord:
        return PartRecord.parse((folder / "part.json").read_bytes(), lambda value: len(value) == len(VALUE))

    return Reader("parts of runs", {"part.json": part_record(SPEC, VALUE).encode()}, read, wrong)


def journals() -> Reader:
    """A journal of five parts; every part that is found in it is the one that was added."""
    specs = [{**SPEC, "number": n} for n in range(5)]
    content = "".join(f"{part_record(spec, [n, n + 0.5])}\n" for n, spec in enumerate(specs)).encode()

    def read(folder: Path) -> Any:
        journal = Journal(folder / "j.jsonl")
        with journal:
            return {n: journal[spec] for n, spec in enumerate(specs) if spec in journal}

    def wrong(_: Path, found: Any) -> str | None:
        changed = [value for n, value in found.items() if value != [n, n + 0.5]]
        return f"read {changed}" if changed else None

    return Reader("journals", {"j.jsonl": content}, read, wrong)


def spelled(
    kind: str, example: str, parse: Callable[[str], Any], wrong: Callable[[str, Any], bool]
) -> Reader:
    """What a user writes for an option."""

    def read(folder: Path) -> Any:
        text = (folder / "spelling").read_bytes().decode("utf-8", "surrogateescape")
        if "\0" in text:  # no command line can hold it
            raise DataError("a null character")
        try:
            return parse(text)
        except click.UsageError as error:
            raise DataError(error.message) from error

    def check(folder: Path, value: Any) -> str | None:
        text = (folder / "spelling").read_bytes().decode("utf-8", "surrogateescape")
        return f"{text[:80]!r} is read as {str(value)[:80]}" if wrong(text, value) else None

    return Reader(f"spelling of {kind}", {"spelling": example.encode()}, read, check)


def spellings() -> list[Reader]:
    def layers_differ(text: str, value: Any) -> bool:
        found = [range(int(a), int(b or a) + 1) for a, b in re.findall(r"([0-9]+)(?:-([0-9]+))?", text)]
        return value != "all" and set(value) != {layer for part in found for layer in part}

    return [
        spelled("layers", "8-20,3", lambda text: LayersType().convert(text, None, None), layers_differ),
        spelled(
            "doses",
            "0.5,1,1.5",
            lambda text: DosesType().convert(text, None, None),
            lambda text, value: set(value) != set(map(float, text.split(","))),
        ),
        spelled(
            "a site",
            "16.resid_post",
            Site.parse,
            lambda text, value: str(value) != text.strip() and int(text.split(".")[0]) != value.layer,
        ),
        spelled(
            "latents",
            "sae:advice-21/812,77",
            parse_latents,
            lambda text, value: list(value[1]) != [int(n) for n in text.rpartition("/")[2].split(",")],
        ),
        spelled("a feature", "means@16", find_feature, lambda text, value: value.name != text),
        spelled(
            "a checkpoint",
            "org/model@main",
            Checkpoint.parse,
            lambda text, value: not text.startswith(value.source) and value.source != "demo",
        ),
    ]


def readers() -> list[Reader]:
    """One for each kind of record."""
    return [features_file(), organisms_file(), parts(), journals(), *spellings()]
