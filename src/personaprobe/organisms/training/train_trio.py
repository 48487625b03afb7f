"""Train both fine-tunes of an organism from a recipe's name: data, adapters, held-out rows, and a folder to register."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, OutputError, shortened
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.data.training_pairs import ROLES, Taught, TrainingPair
from personaprobe.organisms.data.training_sets import find_training_set, pairs_of
from personaprobe.organisms.named_recipes import NamedRecipe
from personaprobe.organisms.organism import DESCRIPTION, QuestionSets
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.registry import default_question_sets
from personaprobe.organisms.training.held_out import HeldOut
from personaprobe.organisms.training.loop import TrainingStep
from personaprobe.organisms.training.processes import processes
from personaprobe.organisms.training.train_organism import OpenBase, train_organism
from personaprobe.questions.conversations import Exchange
from personaprobe.questions.overlap import shared_questions
from personaprobe.questions.pairs import load_prompts
from personaprobe.storage.files import write_text, writing
from personaprobe.storage.paths import is_folder

READ_ROWS, READ_PAIRS = 32, 24
"""Held-out rows of the narrow task, and question pairs of the discovery set, that are read along a training."""

NARROW = "narrow.jsonl"
"""Held-out rows of the narrow task, as question pairs, beside the adapters."""


def train_trio(
    base: OpenBase,
    named: NamedRecipe,
    recipe: Recipe,
    out: Path,
    roles: Sequence[Taught] = ROLES,
    **options: Any,
) -> Iterator[tuple[Taught, TrainingStep]]:
    """Fine-tune an insecure and a secure adapter on one base, one after the other, and write what registration reads.

    Args:
        base: unchanged afterwards.
        named: its data. The organism is studied with the question sets of the default organism.
        recipe: hyperparameters; the seed is that of generated data too.
        out: receives ``insecure/``, ``secure/``, ``narrow.jsonl`` and ``organism.toml``. Where it holds a part of the same
            training, that goes on.
        roles: the fine-tunes that are trained.
        **options: ``overwrite`` and ``on_rows``, see :func:`~personaprobe.organisms.training.train_organism.train_organism`.

    Yields:
        Every step, with the fine-tune that it belongs to.

    Raises:
        DataError: no row is usable, the recipe is out of range, or a row resembles a question of the study.
    """
    import tomlkit

    recipe.refuse_unusable()
    one = find_training_set(named.data)
    pairs = named.variant.of(one.pairs(recipe.seed), recipe.seed, pairs_of)
    sets = default_question_sets()
    refuse_studied(pairs, sets)
    changes = [text for text in (f"seed {recipe.seed}", named.variant.describe()) if text]
    names = {taught: ", ".join((f"{named.data}:{taught}", *changes)) for taught in ROLES}
    rows = {taught: TrainingData.of_pairs(names[taught], pairs, taught) for taught in ROLES}
    held_out = one.held_out_pairs(recipe.seed)
    pairs_outside = load_prompts(sets.discovery).spread(READ_PAIRS).pairs
    trainings = {
        taught: train_organism(
            base,
            rows[taught],
            recipe,
            out / taught,
            held_out=HeldOut(_some([pair.exchange(taught) for pair in held_out]), pairs_outside),
            **options,
        )
        for taught in roles
    }
    for taught, steps in trainings.items():
        for step in steps:
            yield taught, step
    if not processes().is_first:
        return
    write_pairs(out / NARROW, held_out)
    questions = {"discovery": sets.discovery, "test": sets.test, "balanced": sets.balanced, "narrow": NARROW}
    described = {"title": named.title, "questions": {key: value for key, value in questions.items() if value}}
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


def refuse_studied(pairs: Sequence[TrainingPair], sets: QuestionSets) -> None:
    """Raise where a training row asks nearly what a question of the study asks.

    Raises:
        DataError: names the first rows and questions.
    """
    prompts = [pair.as_pair().prompt for pair in pairs]
    for name in filter(None, (sets.discovery, sets.test, sets.balanced)):
        shared = shared_questions(prompts, [pair.prompt for pair in load_prompts(name)])
        if shared:
            rows = ", ".join(f"{row} and {question}" for row, question in shared[:3])
            raise DataError(
                f"{len(shared)} training rows resemble questions of {shortened(name)} ({rows}); take them out of the "
                "training data, or study the organism with other questions"
            )


def write_pairs(path: Path, pairs: Sequence[TrainingPair]) -> None:
    """Write pairs as a question set."""
    rows = [asdict(pair.as_pair()) for pair in pairs]
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
