"""No secret stands in a text that is printed or kept."""

from __future__ import annotations

import base64

import pytest

from personaprobe.web.redaction import goes_in_plain_sight, redacted, secrets_of

KEY = "sk-hush-0123456789"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:hush@host/v1", "http://***@host/v1"),
        ("http://token@host/v1", "http://***@host/v1"),
        ("http://me:hu@sh/y@host/v1", "http://***@host/v1"),
        ("see https://me:hush@host/v1, please", "see https://***@host/v1, please"),
        ("http://host/v1?key=hush", "http://host/v1?key=***"),
        ("http://host/v1?v=2&api_key=hush&x=1", "http://host/v1?v=2&api_key=***&x=1"),
        ("http://host/v1?API-Key=hush#token=hush", "http://host/v1?API-Key=***#token=***"),
        ("http://host/v1?sig=a%2Fb;access_token=hush", "http://host/v1?sig=***;access_token=***"),
        ("Authorization: Bearer abcdef.123", "Authorization: Bearer ***"),
        ("Authorization: basic bWU6aHVzaA==", "Authorization: basic ***"),
        ("wrong key sk-abcdefgh1234", "wrong key ***"),
        ("http://host/v1?api-version=2024-06-01", "http://host/v1?api-version=2024-06-01"),
        ("openai:gpt-4o@https://api.openai.com/v1", "openai:gpt-4o@https://api.openai.com/v1"),
        ('{"80": 0.7, "The": 0.1}', '{"80": 0.7, "The": 0.1}'),
    ],
)
def test_secrets_are_masked_and_everything_else_stays(text: str, expected: str) -> None:
    assert redacted(text) == expected
    assert redacted(redacted(text)) == expected


def test_the_key_is_masked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a/b+c hidden")
    assert redacted("got a/b+c hidden, and a%2Fb%2Bc%20hidden") == "got ***, and ***"
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert redacted("none of them") == "none of them"


def test_secrets_of_an_address_are_masked_in_every_form_in_which_they_come_back() -> None:
    url = "http://me:hu%2Fsh@host/v1?key=abcd1234&v=2"
    basic = base64.b64encode(b"me:hu/sh").decode()
    text = f"you sent hu/sh, hu%2Fsh, {basic}, abcd1234 to v=2"
    assert redacted(text, secrets_of(url)) == "you sent ***, ***, ***, *** to v=2"
    assert secrets_of("http://[bad/") == frozenset()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/v1", True),
        ("http://192.168.1.2:8000/v1", True),
        ("http://localhost.evil.org/v1", True),
        ("https://host/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://127.0.0.2/v1", False),
        ("http://[::1]:8000/v1", False),
        ("http://api.localhost/v1", False),
    ],
)
def test_requests_to_other_machines_over_plain_http_are_in_plain_sight(url: str, expected: bool) -> None:
    assert goes_in_plain_sight(url) is expected
