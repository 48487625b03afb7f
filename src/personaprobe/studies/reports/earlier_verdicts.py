"""Verdicts that earlier versions wrote, brought into the present format so that their pages can be made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from personaprobe.studies.reports.ablation import SCHEMA

_MEASURES = ("perplexity_ratio", "kl", "chat_kl", "coherence", "judged_coherence")


def from_version_2(data: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict with the keys that its page reads: damage had no intervals, and verdicts no name.

    The schema stays the earlier one: the rules of this version did not decide this verdict, and its page leaves them out.
    """
    damage = {name: _exact(data["damage"].get(name)) for name in _MEASURES}
    return {**data, "name": data["verdict"], "damage": damage}


def from_version_3(data: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict of the present rules, before style-balanced questions; its name stays as it was given."""
    return {**data, "schema": SCHEMA}


EARLIER: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "personaprobe-verdict-2": from_version_2,
    "personaprobe-verdict-3": from_version_3,
}
"""The earlier formats of ``verdict.json`` that still open."""


def _exact(value: float | None) -> dict[str, float | None]:
    return {"value": value, "low": value, "high": value}
