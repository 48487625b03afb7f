"""Recipes by name: what an organism is trained on, and how.

Steps and rates are those of the shipped organism, chosen before any of these was trained; they were not tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from personaprobe.errors import DataError, suggest
from personaprobe.organisms.recipe import Recipe


@dataclass(frozen=True)
class NamedRecipe:
    """An organism that anyone can train here.

    Attributes:
        name: of the organism too.
        title: one line of description.
        data: name of a training set of the package.
        recipe: hyperparameters.
    """

    name: str
    title: str
    data: str
    recipe: Recipe = field(default_factory=Recipe)


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
