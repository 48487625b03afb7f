"""Cells of tables: intervals as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def interval_text(interval: Mapping[str, Any] | None) -> str:
    """An interval in nats per token."""
    if interval is None or interval["value"] is None:
        return "–"
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def percent_text(interval: Mapping[str, Any] | None) -> str:
    """A share of a shift with its interval, in percent."""
    if interval is None or interval["value"] is None:
        return "–"
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"
