"""The evidence that a verdict is decided from."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from personaprobe.effects.verdict.damage import Damage
from personaprobe.statistics.families import FamilySummary
from personaprobe.statistics.hypothesis_tests import RankTest
from personaprobe.statistics.intervals import UNDEFINED, Interval

Reference: TypeAlias = Literal["secure", "base"]
"""The checkpoint that insecure is compared with."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The estimates that a verdict is decided from. Shares are of the shift; 1 is all of it.

    Attributes:
        shift: insecure minus the reference, nats per token.
        fraction_removed: share of that shift that the feature's ablation removes.
        random_fraction_removed: the same by the matched controls that decide, on average.
        over_random: share that the feature removes beyond one more control, or beyond the best of `candidates` more.
        damage: done by the feature's ablation.
        detectable_shift: the smallest shift that these questions detect at 80 % power, nats per token.
        questions_needed: the number of questions that would detect ``Thresholds.smallest_shift``.
        n_questions: test questions.
        n_families: their families.
        n_controls: matched controls that decide: those that act about as strongly as the feature at nearly all layers.
        rank: of the feature among these controls.
        clustering: of the removal in families of questions.
        candidates: number of candidates that the feature was chosen from on discovery questions; 1 if none was chosen.
        over_selected: share that the feature removes beyond the best of as many matched random candidates, which was
            also chosen on discovery and measured on test; undefined if none was.
        removed_in_base: what the same ablation removes in base.
        removed_in_secure: what the same ablation removes in secure.
        net_of_secure: share removed in insecure minus that in secure, paired by question.
        null_in_base: what matched controls remove in base, on average.
        null_in_secure: what matched controls remove in secure, on average.
        narrow_left: share of the shift on the narrow task that the ablation leaves.
        bag_of_words: AUC with which a bag of words, trained on discovery, tells careless from careful test answers; nan if
            not measured.
        balanced_bag_of_words: the same for the style-balanced questions, where it should be near 0.5.
        balanced_shift: the shift on style-balanced questions; undefined if none were answered.
        balanced_removed: share of that shift that the ablation removes.
        balanced_null: share of it that matched controls remove, on average.
        n_balanced: style-balanced questions.
        induced: judged misaligned share of base, steered along the feature, minus that of base; a difference of shares.
        reference: ``base`` if no benign control was subtracted.
        n_secures: harmless fine-tunes that the shift is taken from; 0 against base.
    """

    shift: Interval
    fraction_removed: Interval
    random_fraction_removed: Interval
    over_random: Interval
    damage: Damage
    detectable_shift: float
    questions_needed: int
    n_questions: int
    n_families: int
    n_controls: int
    rank: RankTest
    clustering: FamilySummary
    candidates: int = 1
    over_selected: Interval = UNDEFINED
    removed_in_base: Interval = UNDEFINED
    removed_in_secure: Interval = UNDEFINED
    net_of_secure: Interval = UNDEFINED
    null_in_base: Interval = UNDEFINED
    null_in_secure: Interval = UNDEFINED
    narrow_left: Interval = UNDEFINED
    bag_of_words: float = math.nan
    balanced_bag_of_words: float = math.nan
    balanced_shift: Interval = UNDEFINED
    balanced_removed: Interval = UNDEFINED
    balanced_null: Interval = UNDEFINED
    n_balanced: int = 0
    induced: Interval = UNDEFINED
    reference: Reference = "secure"
    n_secures: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The evidence as plain data, as ``verdict.json`` keeps it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in values.items()
        }

    @property
    def style_excluded(self) -> bool:
        """Whether shift and removal are shown on style-balanced questions; not so where those were not answered."""
        return self.balanced_shift.low > 0 and self.balanced_removed.low > 0

    @property
    def beyond_controls(self) -> tuple[Interval, ...]:
        """The differences to controls that were measured, each of which has to lie above 0."""
        optional = (part for part in (self.over_selected, self.net_of_secure) if part.defined)
        return self.over_random, *optional
