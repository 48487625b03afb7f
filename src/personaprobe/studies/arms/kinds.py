"""The kind of an arm is its purpose in a study."""

from __future__ import annotations

from typing import Literal, TypeAlias

ArmKind: TypeAlias = Literal[
    "base",
    "secure",
    "insecure",
    "further secure",
    "ablated",
    "random",
    "covariance",
    "shuffled",
    "selected",
    "component",
    "benign",
    "organism",
    "mean shift",
    "last block",
    "logit bias",
    "iterated",
    "ablated elsewhere",
    "control elsewhere",
    "steered",
]
"""The purpose of an arm: the untreated checkpoints, with further harmless fine-tunes; the feature's ablation; controls,
which decide or are only shown; narrower and wider versions of the ablation; the ablation and controls in base and secure;
base steered."""

DECIDING: frozenset[ArmKind] = frozenset({"random", "covariance", "shuffled"})
"""Controls of these kinds must be beaten by a feature, each one of them."""

GROUPED: frozenset[ArmKind] = DECIDING | {"control elsewhere"}
"""Arms of these kinds differ in their draw alone, and share a row of tables and figures."""

SHOWN: frozenset[ArmKind] = frozenset(
    {
        "component",
        "benign",
        "organism",
        "mean shift",
        "last block",
        "logit bias",
        "iterated",
        "control elsewhere",
    }
)
"""Arms of these kinds decide nothing; they answer as few questions as the controls that decide."""

COMPARED: frozenset[ArmKind] = frozenset({"selected", "ablated elsewhere", "steered"})
"""Single arms that a rule of the verdict, or a word of its sentence, rests on; they answer twice as many questions."""

SPEAKING: tuple[ArmKind, ...] = ("base", "secure", "insecure", "ablated", "random", "steered")
"""Of each of these kinds one arm answers freely, so that a reader can compare answers."""

COHERENCE: tuple[ArmKind, ...] = ("insecure", "ablated")
"""Arms of these kinds answer more questions, and harmless requests: their shares of coherent answers are compared."""
