"""Verdicts that earlier versions wrote, brought into the present format so that their pages can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EARLIER = "personaprobe-verdict-2"
"""The earlier format of ``verdict.json`` that still opens."""

_MEASURES = ("perplexity_ratio", "kl", "chat_kl", "coherence", "judged_coherence")


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict of :data:`EARLIER` with the keys that its page reads: damage had no intervals, and verdicts no name.

    The schema stays the earlier one: the rules of this version did not decide this verdict, and its page leaves them out.
    """
    damage = {name: _exact(data["damage"].get(name)) for name in _MEASURES}
    return {**data, "name": data["verdict"], "damage": damage}


def _exact(value: float | None) -> dict[str, float | None]:
    return {"value": value, "low": value, "high": value}
