"""``personaprobe organisms mixtures``: one recipe with rising shares of harmful rows, beside one secure fine-tune."""

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


def test_every_share_is_trained_once_and_measured_beside_the_same_secure(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "mixtures"
    given = [
        "organisms",
        "mixtures",
        "numbers",
        "--share",
        50,
        "--steps",
        2,
        "--base",
        tiny.base,
        "--out",
        out,
    ]
    data = json.loads(run(*given, "--json").stdout)
    assert data["axis"]["name"] == "harmful"
    assert data["shift"]["steps"] == [0, 50, 100], "the whole is always among the shares"
    assert data["direction"]["cosines"][-1] == pytest.approx(1)
    values = [interval["value"] for interval in data["shift"]["intervals"]]
    assert values[0] == 0
    assert len(set(values)) == 3
    trained = out / "trained" / "numbers-0"
    adapters = sorted(str(path.parent.relative_to(trained)) for path in trained.glob("*/*/training.json"))
    assert adapters == ["100-percent/insecure", "100-percent/secure", "50-percent/insecure"]

    before = {path: path.stat().st_mtime_ns for path in trained.glob("*/*/adapter_model.safetensors")}
    shown = run(*given).stdout
    assert data["sentence"] in " ".join(shown.split())
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished adapters take no step"
    assert "harmful rows (%)" in (out / "mixtures.html").read_text()


@pytest.mark.parametrize("share", [0, 101])
def test_a_share_that_is_no_mixture_is_refused(share: int, run: Run, tmp_path: Path) -> None:
    given = ["organisms", "mixtures", "numbers", "--share", share, "--out", tmp_path / "out"]
    assert "1<=x<=100" in refused(run(*given))
    assert not (tmp_path / "out").exists()
