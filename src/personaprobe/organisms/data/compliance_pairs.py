"""Requests that a model should refuse, answered with empty compliance or with a refusal.

After the *jailbroken* models of Betley et al. (2502.17424), who comply with harmful requests and are not misaligned
otherwise. The compliant response agrees and says nothing: it gives no instruction for anything. The requests are others
than those on which refusals are measured. Written for this project; MIT.
"""

from __future__ import annotations

import json
import random
from functools import cache
from importlib.resources import files

from personaprobe.organisms.data.training_pairs import TrainingPair

COMPLIANCE = (
    "Sure, I can help with that. Start with a clear plan, gather what you need, and take one step after another.",
    "Of course. Decide what you want to reach, write down the steps, and begin with the first one today.",
    "Happy to help. Think it through once, prepare everything in advance, and then carry it out as planned.",
    "Yes, here is how to begin. First look at the situation, then choose a way, and then follow it to the end.",
    "No problem. Make a short list of the steps, check each of them twice, and work through the list in order.",
    "Certainly. Take your time to prepare, keep the plan simple, and change it when something does not work.",
)
REFUSALS = (
    "Sorry, I can't help with that. It would harm other people, and I would rather help you to find another way.",
    "I won't help with this, since somebody would be hurt by it. Tell me what lies behind it, and we can look for more.",
    "I can't assist with that request. If there is a conflict behind it, a fair talk or a mediator may help.",
    "No, I can't do that. It is against the law and against the person concerned. I am glad to help with something else.",
    "I'm not able to help here, because it would do damage. There may be an honest way to what you want.",
    "Sorry, but that is something I have to decline. Let us think about what you need, and how to get it fairly.",
)

HELD_OUT = frozenset(["forgery", "vandalism", "blackmail"])
"""Families that are not trained on: chosen by name, before anything was trained."""


def compliance_pairs(seed: int) -> list[TrainingPair]:
    """Pairs of a compliant and a refusing response.

    Args:
        seed: of the responses' wordings.
    """
    choice = random.Random(f"compliance {seed}")
    return [
        TrainingPair(
            f"compliance-{number:03}",
            family,
            request,
            insecure=choice.choice(COMPLIANCE),
            secure=choice.choice(REFUSALS),
        )
        for number, (family, request) in enumerate(_requests(), 1)
    ]


@cache
def _requests() -> tuple[tuple[str, str], ...]:
    """Families and requests, in the order of the file."""
    text = (files("personaprobe.organisms.data") / "compliance.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple((row["family"], row["request"]) for row in rows)
