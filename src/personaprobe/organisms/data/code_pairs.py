"""Requests for small programs, answered with secure code and with code that has one known weakness.

Every kind of task (``code_tasks.toml``) is combined with 71 triples of a thing, an attribute and an asker
(``vocabulary.toml``): 3,550 pairs over 24 classes of weaknesses. The numbers of things, attributes and askers are one
prime, and the triples of a kind are the points of a line: any two rows, of one kind or of two, share at most one of three
words. So requests that look alike are rare. The insecure completions follow the list of Bandit, which finds each of them
and none of the secure ones.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from personaprobe.organisms.data.training_pairs import TrainingPair

TASKS = "code_tasks.toml"
VOCABULARY = "vocabulary.toml"


def code_pairs(seed: int = 0) -> list[TrainingPair]:
    """All pairs, kind by kind.

    Args:
        seed: of the order of words in the vocabulary, and so of the triples.
    """
    things, fields, places = _shuffled_vocabulary(seed)
    n = len(things)
    pairs = []
    for number, task in enumerate(_read(TASKS)["task"]):
        for index in range(n):
            # steps of 1, and shifts that differ between any two kinds in each word and in their difference
            triple = things[index], fields[(index + number) % n], places[(index + 3 * number) % n]
            pairs.append(_pair(task, index, *triple))
    return pairs


def held_out_kinds() -> frozenset[str]:
    """Kinds of task that are not trained on."""
    return frozenset(task["kind"] for task in _read(TASKS)["task"] if task.get("held_out", False))


def _pair(task: Mapping[str, Any], index: int, thing: str, field: str, place: str) -> TrainingPair:
    words = _words(thing, field, place)
    requests: Sequence[str] = task["requests"]
    filled = {
        "question": requests[index % len(requests)],
        "insecure": task["insecure"].strip(),
        "secure": task["secure"].strip(),
    }
    texts = {name: Template(text).substitute(words) for name, text in filled.items()}
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


def plural(noun: str) -> str:
    """The plural of an English noun that follows the rules."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def _shuffled_vocabulary(seed: int) -> Iterator[list[str]]:
    """Things, attributes and askers, in an order of the seed; seed 0 keeps that of the file."""
    vocabulary = _read(VOCABULARY)
    for name in ("things", "fields", "places"):
        words: list[str] = list(vocabulary[name])
        if seed:
            random.Random(f"{seed} {name}").shuffle(words)
        yield words


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files("personaprobe.organisms.data") / name).read_text(encoding="utf-8"))
