"""All variants of a workload compute the same values, and bench reports their differences; times are not tested here."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from personaprobe.cli.main import cli

if TYPE_CHECKING:
    from tiny_trio import TinyTrio


@pytest.fixture(scope="module")
def record(tiny: TinyTrio) -> dict[str, Any]:
    given = ["bench", *tiny.options(), "--rounds", 1, "--quiet", "--json"]
    timed: dict[str, Any] = json.loads(CliRunner().invoke(cli, [str(part) for part in given]).stdout)
    return timed


def test_every_variant_computes_what_the_bare_model_does(record: dict[str, Any]) -> None:
    works = {
        name: list(ones) for name, ones in groupby(record["works"], lambda work: work["name"].split()[0])
    }
    assert {name: len(ones) for name, ones in works.items()} == {
        "recording": 2,
        "scoring": 1,
        "generating": 2,
        "a": 1,
    }
    for work in (*works["recording"], *works["scoring"]):
        apart, most = re.findall(r"[\d.e+-]+(?= apart)|(?<=up to )[\d.e+-]+", work["deviation"])
        assert float(apart) <= 1e-4 * float(most), work
    answers = [work["deviation"] for work in record["works"] if "answers the same" in work["deviation"]]
    assert len(answers) == 3
    for sentence in answers:
        same, n = map(int, re.findall(r"\d+", sentence)[:2])
        assert same >= 0.9 * n, "a tie of two tokens may go either way, and no more"


def test_the_reference_is_as_fast_as_itself(record: dict[str, Any]) -> None:
    for work in record["works"]:
        first, *others = work["speeds"].values()
        assert (first["ratio"], first["slowest"], first["fastest"]) == (1.0, 1.0, 1.0)
        assert others
        assert all(0 < other["slowest"] <= other["ratio"] <= other["fastest"] for other in others)
