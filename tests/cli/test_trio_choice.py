"""The choice of a trio on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from personaprobe.cli.trio_choice import TrioChoice
from personaprobe.errors import CheckpointError


def test_without_a_choice_the_shipped_organism_is_taken() -> None:
    assert TrioChoice().name == "advice"


def test_an_organism_and_checkpoints_of_one_s_own_exclude_each_other() -> None:
    with pytest.raises(CheckpointError, match="organism advice was given together with --base"):
        TrioChoice(organism="advice", base="b", insecure="i", secure=("s",))


def test_a_part_of_a_trio_is_refused_and_the_rest_named() -> None:
    with pytest.raises(CheckpointError, match="--base, --secure given, --insecure missing"):
        TrioChoice(base="b", secure=("s",))


def test_secure_may_be_left_out_and_base_is_then_the_reference(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "base", "insecure")
    trio = TrioChoice(base=folders["base"], insecure=folders["insecure"]).checkpoints
    assert trio.secure is None
    assert trio.reference == trio.base


def test_several_secures_are_the_first_and_further_ones(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "base", "insecure", "s1", "s2", "s3")
    secures = folders["s1"], folders["s2"], folders["s3"]
    trio = TrioChoice(base=folders["base"], insecure=folders["insecure"], secure=secures).checkpoints
    assert [checkpoint.source for _, checkpoint in trio.secures()] == list(secures)


def folders_of(path: Path, *names: str) -> dict[str, str]:
    for name in names:
        (path / name).mkdir()
    return {name: str(path / name) for name in names}
