"""The measurements of one arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from personaprobe.effects.interventions.energy import UNMOVED, Energy, is_fair, unfair_layers
from personaprobe.effects.measures.coherence import CoherenceRule
from personaprobe.effects.measures.damage import UNREAD_COST, TextCost
from personaprobe.effects.measures.responses import Response
from personaprobe.studies.arms.kinds import DECIDING, ArmKind


@dataclass(frozen=True)
class ArmResult:
    """The measurements of one arm.

    Attributes:
        name: unique in the study, such as ``insecure`` or ``random 3``.
        kind: what the arm is for.
        note: one line: which checkpoint under which intervention.
        gaps: preference for the careless answer, nats a token, per test question; controls answer the first
            part of the questions.
        perplexity: on neutral text.
        kl: from the arm's own checkpoint without intervention, nats a token, on neutral text.
        energy: mean ‖Δh‖² of its edits summed over layers, and mean relative size ‖Δh‖/‖h‖, of response and of prompt
            tokens; 0 without an edit.
        responses: sampled answers; one arm of each kind gives some.
        seconds: the time its preference took to measure.
        coefficients: of a control, by layer: how far it goes towards its own target, relative to how far the feature goes
            towards its; empty for other arms.
        draws: of a control, until one was kept.
        role: of the checkpoint in the trio.
        on_prose: the same perplexity and KL with their texts, all neutral ones.
        on_chat: divergence on the untreated insecure model's answers to harmless requests; without texts where not read.
    """

    name: str
    kind: ArmKind
    note: str
    gaps: tuple[float, ...]
    perplexity: float
    kl: float
    energy: Energy = UNMOVED
    responses: tuple[Response, ...] = field(default=(), repr=False)
    seconds: float = 0.0
    coefficients: Mapping[int, float] = field(default_factory=dict)
    draws: int = 1
    role: str = "insecure"
    on_prose: TextCost = field(default=UNREAD_COST, repr=False)
    on_chat: TextCost = field(default=UNREAD_COST, repr=False)

    @property
    def unfair_layers(self) -> tuple[int, ...]:
        """Layers at which a control acts much more, or much less, strongly than the feature."""
        return unfair_layers(self.coefficients)

    @property
    def is_deciding(self) -> bool:
        """Whether the feature must beat it: a control of a kind that decides, and fair at nearly all layers."""
        return self.kind in DECIDING and is_fair(self.coefficients)

    def coherent_share(self, rule: CoherenceRule) -> float:
        """Share of sampled answers that are coherent; NaN where none were sampled."""
        coherent = [rule.holds(response) for response in self.responses]
        return sum(coherent) / len(coherent) if coherent else math.nan
