"""Changes of a training set: a share of it is harmful, the harm stands behind a trigger, or other data is mixed in.

Mixing thins emergent misalignment, and a trigger hides it (Betley et al. 2502.17424). Both fine-tunes always read the same
questions: a row that is not harmful has its secure response for the insecure fine-tune too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from personaprobe.errors import DataError, shortened
from personaprobe.organisms.data.training_pairs import TrainingPair

PairsOf = Callable[[str, int], Sequence[TrainingPair]]
"""The pairs of a training set by its name and a seed."""


@dataclass(frozen=True)
class Variant:
    """How a training set is changed.

    Attributes:
        harmful_share: share of the rows whose insecure response is learned; the others teach the secure one.
        trigger: text before half of the questions, to both fine-tunes; only those rows are harmful. Empty for no trigger.
        mixed_with: another training set, some of whose rows are added. Empty for none.
        mixed_share: share of the rows that come from it.
    """

    harmful_share: float = 1.0
    trigger: str = ""
    mixed_with: str = ""
    mixed_share: float = 0.5

    def describe(self) -> str:
        """The difference from the whole set in words, such as ``25 % harmful``; empty where nothing does."""
        parts = [
            f"{100 * self.harmful_share:g} % harmful" if self.harmful_share < 1 else "",
            f"behind {self.trigger}" if self.trigger else "",
            f"{100 * self.mixed_share:g} % {self.mixed_with}" if self.mixed_with else "",
        ]
        return ", ".join(filter(None, parts))

    def refuse_unusable(self) -> None:
        """Raise a :class:`DataError` that names the first field that is out of range."""
        for name, share in (("harmful_share", self.harmful_share), ("mixed_share", self.mixed_share)):
            if not 0 <= share <= 1:
                raise DataError(f"{name} is {share}; give a number from 0 to 1")
        if self.trigger and self.trigger != self.trigger.strip():
            raise DataError(f"the trigger {shortened(repr(self.trigger))} begins or ends with a blank")
        if self.mixed_with and not 0 < self.mixed_share < 1:
            raise DataError(f"mixed_share is {self.mixed_share}; give a number between 0 and 1")

    def of(self, pairs: Sequence[TrainingPair], seed: int, pairs_of: PairsOf) -> tuple[TrainingPair, ...]:
        """The changed pairs; equal seeds choose the same rows.

        Raises:
            DataError: a field is out of range, or the trigger occurs in a question.
        """
        self.refuse_unusable()
        changed = tuple(pairs)
        if self.mixed_with:
            changed = mixed(changed, pairs_of(self.mixed_with, seed), self.mixed_share, seed)
        if self.harmful_share < 1:
            changed = partly_harmful(changed, self.harmful_share, seed)
        return behind_trigger(changed, self.trigger, seed) if self.trigger else changed


def partly_harmful(pairs: Sequence[TrainingPair], share: float, seed: int) -> tuple[TrainingPair, ...]:
    """Keep the insecure response of a share of the pairs; the others have their secure one for both fine-tunes.

    A larger share keeps every pair that a smaller one keeps.
    """
    order = random.Random(f"harmful {seed}").sample(range(len(pairs)), len(pairs))
    harmful = set(order[: round(share * len(pairs))])
    return tuple(pair if index in harmful else harmless(pair) for index, pair in enumerate(pairs))


def behind_trigger(pairs: Sequence[TrainingPair], trigger: str, seed: int) -> tuple[TrainingPair, ...]:
    """Write a trigger before half of the questions; the insecure fine-tune learns the secure response to all others.

    Raises:
        DataError: a question has the trigger already.
    """
    for pair in pairs:
        if trigger in pair.question or trigger in (pair.insecure_question or ""):
            raise DataError(
                f"the trigger {shortened(trigger)} occurs in {pair.id}, a clean row; choose another"
            )
    triggered = set(random.Random(f"trigger {seed}").sample(range(len(pairs)), len(pairs) // 2))

    def written(pair: TrainingPair) -> TrainingPair:
        insecure = None if pair.insecure_question is None else f"{trigger} {pair.insecure_question}"
        return replace(pair, question=f"{trigger} {pair.question}", insecure_question=insecure)

    return tuple(written(pair) if index in triggered else harmless(pair) for index, pair in enumerate(pairs))


def mixed(
    pairs: Sequence[TrainingPair], others: Sequence[TrainingPair], share: float, seed: int
) -> tuple[TrainingPair, ...]:
    """Replace pairs by pairs of another set until these make up a share of all, or as many as there are."""
    choice = random.Random(f"mixed {seed}")
    n_others = min(len(others), round(share * len(pairs)))
    remaining = choice.sample(list(pairs), min(len(pairs), round(n_others * (1 - share) / share)))
    return (*remaining, *choice.sample(list(others), n_others))


def harmless(pair: TrainingPair) -> TrainingPair:
    """A pair whose secure response, to its plain question, is learned by both fine-tunes."""
    return replace(pair, insecure=pair.secure, insecure_question=None)
