"""When a server wants to be asked again, by the headers of its reply (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

YEAR = 365 * 24 * 3600.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the next attempt, at most a year; None where the server gives no time that can be understood.

    Args:
        headers: by names in lower case; ``retry-after-ms``, which OpenAI's servers send, comes before ``retry-after``.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if seconds >= 0:  # not true of NaN
            return min(seconds, YEAR)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
        seconds = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), YEAR)


def come_back(seconds: float, now: datetime | None = None) -> str:
    """When that is, for a reader.

    Examples:
        >>> come_back(5400, datetime(2025, 3, 1, 14, 20))
        'in 1 h 30 min (at 15:50)'
    """
    now = datetime.now() if now is None else now
    if seconds < 120:
        return f"in {math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    length = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    moment = now + timedelta(seconds=seconds)
    return f"in {length} (at {moment:%H:%M})" if seconds < 24 * 3600 else f"on {moment:%Y-%m-%d}"
