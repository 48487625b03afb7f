"""The choice of a trio on the command line."""

from __future__ import annotations

import pytest

from personaprobe.cli.trio_choice import TrioChoice
from personaprobe.errors import CheckpointError


def test_without_a_choice_the_shipped_organism_is_taken() -> None:
    assert TrioChoice().name == "advice"


def test_an_organism_and_a_trio_of_one_s_own_exclude_each_other() -> None:
    with pytest.raises(CheckpointError, match="organism advice was given together with --base"):
        TrioChoice(organism="advice", base="b", insecure="i", secure="s")


def test_a_part_of_a_trio_is_refused_and_the_rest_named() -> None:
    with pytest.raises(CheckpointError, match="--base, --secure given, --insecure missing"):
        TrioChoice(base="b", secure="s")
