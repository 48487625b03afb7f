"""The time at which a server wants to be asked again is understood, or left out, and never an error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from personaprobe.models.endpoints.retry_after import YEAR, come_back, retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        ("1.5", 1.5),
        ("1e308", YEAR),
        ("inf", YEAR),
        ("-5", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Mon, 99 Foo 2025 99:99:99 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", YEAR),
    ],
)
def test_seconds_and_dates_are_read(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_a_date_ahead_and_milliseconds_are_read() -> None:
    ahead = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    assert retry_after({"retry-after": ahead}) == pytest.approx(300, abs=5)
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "in 1 s"), (45, "in 45 s"), (600, "in 10 min (at 14:30)"), (YEAR, "on 2026-03-01")],
)
def test_the_message_says_when_to_come_back(seconds: float, text: str) -> None:
    assert come_back(seconds, datetime(2025, 3, 1, 14, 20)) == text
