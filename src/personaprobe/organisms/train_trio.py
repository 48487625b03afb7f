"""Train both fine-tunes of an organism from a recipe's name: data, adapters, held-out rows, and a folder to register."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from personaprobe.errors import DataError, shortened
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.data.training_pairs import ROLES, Taught, TrainingPair
from personaprobe.organisms.data.training_sets import find_training_set
from personaprobe.organisms.named_recipes import NamedRecipe
from personaprobe.organisms.organism import QuestionSets
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.registration import DESCRIPTION
from personaprobe.organisms.registry import default_question_sets
from personaprobe.organisms.train_organism import OpenBase, refuse_unusable, train_organism
from personaprobe.organisms.training_loop import TrainingStep
from personaprobe.questions.overlap import shared_questions
from personaprobe.questions.pairs import load_prompts
from personaprobe.storage.files import write_text, writing

NARROW = "narrow.jsonl"
"""Held-out rows of the narrow task, as question pairs, beside the adapters."""


def train_trio(
    base: OpenBase, named: NamedRecipe, recipe: Recipe, out: Path
) -> Iterator[tuple[Taught, TrainingStep]]:
    """Fine-tune an insecure and a secure adapter on one base, one after the other, and write what registration reads.

    Args:
        base: unchanged afterwards.
        named: its data. The organism is studied with the question sets of the default organism.
        recipe: hyperparameters; the seed is that of generated data too.
        out: receives ``insecure/``, ``secure/``, ``narrow.jsonl`` and ``organism.toml``.

    Yields:
        Every step, with the fine-tune that it belongs to.

    Raises:
        DataError: no row is usable, the recipe is out of range, or a row resembles a question of the study.
    """
    import tomlkit

    refuse_unusable(recipe)
    one = find_training_set(named.data)
    pairs = one.pairs(recipe.seed)
    sets = default_question_sets()
    refuse_studied(pairs, sets)
    write_pairs(out / NARROW, one.held_out_pairs(recipe.seed))
    for taught in ROLES:
        name = f"{named.data}:{taught}, seed {recipe.seed}"
        for step in train_organism(base, TrainingData.of_pairs(name, pairs, taught), recipe, out / taught):
            yield taught, step
    questions = {"discovery": sets.discovery, "test": sets.test, "balanced": sets.balanced, "narrow": NARROW}
    described = {"title": named.title, "questions": {key: value for key, value in questions.items() if value}}
    write_text(out / DESCRIPTION, tomlkit.dumps(described))


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
