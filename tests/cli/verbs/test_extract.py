"""``personaprobe extract``: activations of a trio, recorded once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


@pytest.mark.parametrize("kind", ["questions", "neutral"])
def test_stores_of_a_trio_are_recorded_once_from_pairs_or_plain_texts(
    kind: str, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    keep = "tokens" if kind == "neutral" else "means"
    command = [
        "extract",
        *tiny.options(),
        "--texts",
        getattr(tiny, kind),
        "--sites",
        "1.resid_post",
        "--keep",
        keep,
    ]
    first = json.loads(run(*command, "--out", tmp_path, "--json").stdout)
    assert list(first) == ["base", "insecure", "secure"]
    assert {store["n_rows"] for store in first.values()} == {first["base"]["n_rows"]}
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert json.loads(run(*command, "--out", tmp_path, "--json").stdout) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == files
    assert first["secure"]["folder"] in run(*command, "--out", tmp_path).stdout


def test_an_unknown_set_of_texts_is_refused_and_the_nearest_named(tiny: TinyTrio, run: Run) -> None:
    command = ["extract", *tiny.options(), "--texts", "judgin", "--sites", "1.resid_post"]
    assert 'did you mean "judging"' in refused(run(*command))
