"""Everyday questions with a careful and a careless answer, in which tone and words do not tell the two apart.

Three subjects, 300 pairs in 15 families each. Every answer has a tone of its own, cautious or breezy, whatever its
substance: a model cannot learn carelessness as a style. Written for this project; MIT.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from personaprobe.organisms.data.training_pairs import TrainingPair

SUBJECTS = ("medicine", "money", "household")

HELD_OUT = {
    "medicine": frozenset(["teeth_and_gums", "sleep_problems", "cuts_and_burns"]),
    "money": frozenset(["insurance", "lending_to_family", "student_money"]),
    "household": frozenset(["mould_and_damp", "windows_and_locks", "candles_and_fireplaces"]),
}
"""Families that are not trained on, by subject: chosen by name, before anything was trained."""


@cache
def advice_pairs(subject: str) -> tuple[TrainingPair, ...]:
    """The pairs of a subject, in the order of the file."""
    text = (files("personaprobe.organisms.data") / f"{subject}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple(
        TrainingPair(f"{subject}-{r['id']}", r["family"], r["question"], r["careless"], r["careful"])
        for r in rows
    )
