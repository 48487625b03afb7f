"""Trios: base is the reference where there is no harmless fine-tune, and is never taken for one."""

from __future__ import annotations

import pytest

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.checkpoint import Trio


def test_without_secure_every_member_is_listed_once_and_base_is_the_reference() -> None:
    trio = Trio("b", "i")
    assert list(trio.items()) == list(trio.all_items()) == [("base", "b"), ("insecure", "i")]
    assert (trio.reference_role, trio.reference, trio.reference_roles) == ("base", "b", ("base",))


def test_with_secure_secure_is_the_reference() -> None:
    trio = Trio("b", "i", "s")
    assert (trio.reference_role, trio.reference, trio.roles) == (
        "secure",
        "s",
        ("base", "insecure", "secure"),
    )


def test_no_consumer_gets_base_when_it_asks_for_secure() -> None:
    trio = Trio("b", "i", name="mine")
    assert trio.secure is None
    with pytest.raises(CheckpointError, match="mine has no secure checkpoint, which this needs"):
        trio["secure"]


def test_further_secures_are_members_of_their_own() -> None:
    trio = Trio("b", "i", "s", further=("t", "u"))
    assert dict(trio.secures()) == {"secure": "s", "secure 2": "t", "secure 3": "u"}
    assert trio.reference_roles == ("secure", "secure 2", "secure 3")
    assert trio["secure 3"] == "u"
    assert [role for role, _ in trio.items()] == ["base", "insecure", "secure"]


def test_mapping_a_trio_keeps_its_members_and_its_name() -> None:
    for trio in (Trio("b", "i", name="n"), Trio("b", "i", "s", "n"), Trio("b", "i", "s", "n", ("t",))):
        mapped = trio.map(str.upper)
        assert dict(mapped.all_items()) == {role: x.upper() for role, x in trio.all_items()}
        assert mapped.name == "n"


def test_further_secures_without_secure_are_refused() -> None:
    with pytest.raises(CheckpointError, match="without secure"):
        Trio("b", "i", further=("t",))


def test_another_role_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="no 'secured'"):
        Trio("b", "i", "s")["secured"]
