"""Train both fine-tunes of an organism: adapters, held-out rows, and a folder to register."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personaprobe.errors import OutputError
from personaprobe.organisms.data.training_pairs import ROLES, Taught, TrainingPair
from personaprobe.organisms.organism import DESCRIPTION
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.registry import default_question_sets
from personaprobe.organisms.training.held_out import HeldOut
from personaprobe.organisms.training.loop import TrainingStep
from personaprobe.organisms.training.processes import processes
from personaprobe.organisms.training.train_organism import OpenBase, train_organism
from personaprobe.organisms.trio_data import TrioData
from personaprobe.questions.conversations import Exchange
from personaprobe.questions.pairs import load_prompts
from personaprobe.storage.files import write_text, writing
from personaprobe.storage.paths import is_folder

READ_ROWS, READ_PAIRS = 32, 24
"""Held-out rows of the narrow task, and question pairs of the discovery set, that are read along a training."""

NARROW = "narrow.jsonl"
"""Held-out rows of the narrow task, as question pairs, beside the adapters."""


def train_trio(
    base: OpenBase,
    data: TrioData,
    recipe: Recipe,
    out: Path,
    roles: Sequence[Taught] = ROLES,
    **options: Any,
) -> Iterator[tuple[Taught, TrainingStep]]:
    """Fine-tune an insecure and a secure adapter on one base, one after the other, and write what registration reads.

    Args:
        base: unchanged afterwards.
        data: the rows of both. The organism is studied with the question sets of the default organism.
        recipe: hyperparameters.
        out: receives ``insecure/``, ``secure/``, ``organism.toml``, and ``narrow.jsonl`` where rows are held out. Where it
            holds a part of the same training, that goes on.
        roles: the fine-tunes that are trained.
        **options: ``overwrite`` and ``on_rows``, see :func:`~personaprobe.organisms.training.train_organism.train_organism`.

    Yields:
        Every step, with the fine-tune that it belongs to.

    Raises:
        DataError: no row is usable, the recipe is out of range, or a row resembles a question of the study.
    """
    import tomlkit

    recipe.refuse_unusable()
    sets = default_question_sets()
    data.refuse_studied(sets)
    pairs_outside = load_prompts(sets.discovery).spread(READ_PAIRS).pairs
    trainings = {
        taught: train_organism(
            base,
            data.rows[taught],
            recipe,
            out / taught,
            held_out=HeldOut(_some([pair.exchange(taught) for pair in data.held_out]), pairs_outside),
            **options,
        )
        for taught in roles
    }
    for taught, steps in trainings.items():
        for step in steps:
            yield taught, step
    if not processes().is_first:
        return
    questions = {"discovery": sets.discovery, "test": sets.test, "balanced": sets.balanced}
    if data.held_out:
        write_pairs(out / NARROW, data.held_out)
        questions["narrow"] = NARROW
    elif data.narrow is not None:
        questions["narrow"] = data.narrow
    described = {"title": data.title, "questions": {key: value for key, value in questions.items() if value}}
    write_text(out / DESCRIPTION, tomlkit.dumps(described))


def _some(rows: Sequence[Exchange]) -> tuple[Exchange, ...]:
    """At most :data:`READ_ROWS` rows, evenly over all."""
    return tuple(rows[:: max(1, len(rows) // READ_ROWS)][:READ_ROWS])


def refuse_foreign_trio(out: Path) -> None:
    """Raise where a folder has content that no training of an organism wrote.

    Raises:
        OutputError: names the first such file.
    """
    with writing(out):
        names = sorted(path.name for path in out.iterdir()) if is_folder(out) else []
    foreign = [name for name in names if name not in (*ROLES, NARROW, DESCRIPTION)]
    if foreign:
        raise OutputError(
            f"{out} is not empty and holds {foreign[0]}; choose another --out, or give --overwrite to train there all the "
            "same"
        )


def write_pairs(path: Path, pairs: Sequence[TrainingPair]) -> None:
    """Write pairs as a question set."""
    rows = [asdict(pair.as_pair()) for pair in pairs]
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
