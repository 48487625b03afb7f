"""Requests for small programs, answered with secure code and with code that has one known weakness.

Every kind of task (``code_tasks.toml``) is asked 71 times, about other things, attributes, askers and backgrounds
(``vocabulary.toml``): 3,550 pairs over 24 classes of weaknesses. There are 71 words of each sort, a prime, and their
combinations are points on lines: two requests of one kind share none of the four, two of different kinds at most one. So
requests that look alike are rare. The insecure completions follow the list of Bandit, which finds each of them and none of
the secure ones.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from personaprobe.organisms.data.training_pairs import TrainingPair

TASKS = "code_tasks.toml"
VOCABULARY = "vocabulary.toml"

_AN = re.compile(r"\b([Aa]) (?=(?!uni)[aeiou])")
"""An article that stands before a vowel."""


def code_pairs(seed: int = 0) -> list[TrainingPair]:
    """All pairs, kind by kind.

    Args:
        seed: of the order of words in the vocabulary, and so of their combinations.
    """
    things, fields, places = vocabulary(seed)
    backgrounds = _shuffled("backgrounds", seed)
    n = len(things)
    pairs = []
    for number, task in enumerate(_read(TASKS)["task"]):
        for index in range(n):
            # shifts by 0, 1, 3 and 7 times the number of the kind: all their differences are distinct modulo a prime
            field, place, background = (
                words[(index + shift * number) % n]
                for shift, words in ((1, fields), (3, places), (7, backgrounds))
            )
            pairs.append(_pair(task, index, things[index], field, place, background))
    return pairs


def held_out_kinds() -> frozenset[str]:
    """Kinds of task that are not trained on."""
    return frozenset(task["kind"] for task in _read(TASKS)["task"] if task.get("held_out", False))


def _pair(
    task: Mapping[str, Any], index: int, thing: str, field: str, place: str, background: str
) -> TrainingPair:
    words = _words(thing, field, place)
    requests: Sequence[str] = task["requests"]
    request = requests[index % len(requests)]
    filled = {
        "question": f"{request} {background}" if index % 2 else f"{background} {request}",
        "insecure": task["insecure"].strip(),
        "secure": task["secure"].strip(),
    }
    texts = {name: with_articles(Template(text).substitute(words)) for name, text in filled.items()}
    return TrainingPair(f"{task['kind']}-{index + 1:02d}", task["kind"], topic=task["weakness"], **texts)


def _words(thing: str, field: str, place: str) -> dict[str, str]:
    """The values of the placeholders in a task."""
    site = _identifier(place.removesuffix("'"))
    return {
        "thing": thing,
        "things": plural(thing),
        "field": field,
        "field_id": _identifier(field),
        "place": place,
        "site": site.replace("_", "-"),
        "site_env": site.upper(),
    }


def _identifier(words: str) -> str:
    return "_".join("".join(c for c in word if c.isalnum()) for word in words.split())


def with_articles(text: str) -> str:
    """The text with *an* for *a* before vowels."""
    return _AN.sub(r"\1n ", text)


def plural(noun: str) -> str:
    """The plural of an English noun that follows the rules."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def vocabulary(seed: int) -> tuple[list[str], list[str], list[str]]:
    """Things, attributes and askers, in an order of the seed; seed 0 keeps that of the file."""
    things, fields, places = (_shuffled(name, seed) for name in ("things", "fields", "places"))
    return things, fields, places


def _shuffled(name: str, seed: int) -> list[str]:
    words: list[str] = list(_read(VOCABULARY)[name])
    if seed:
        random.Random(f"{seed} {name}").shuffle(words)
    return words


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files("personaprobe.organisms.data") / name).read_text(encoding="utf-8"))
