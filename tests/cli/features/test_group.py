"""``personaprobe features``: the list of registered features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click.testing import Result

    from cli.conftest import TinyTrio

Run = Callable[..., "Result"]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_features_lists_what_is_registered_and_what_is_wrong_with_it(
    registered: Path, run: Run, tiny: TinyTrio
) -> None:
    from personaprobe.storage.digests import sha256_of

    path = tiny.direction(registered / "good.safetensors")
    evidence = {
        "chosen": {"fraction_removed": 0.731, "perplexity_ratio": 1.024},
        "questions": {"name": "advice/discovery", "n": 36},
    }
    write(registered / "evidence.json", json.dumps(evidence))
    entry = f'direction = "good.safetensors"\nsha256 = "{sha256_of(path)}"\nevidence = "evidence.json"\n'
    write(
        registered / "features.toml",
        f'[good]\n{entry}\n[gone]\ndirection = "gone.safetensors"\nsha256 = ""\n',
    )
    sentence = "removes 73% of the shift at perplexity × 1.02 (36 questions of advice/discovery)"
    good, gone = json.loads(run("features", "--json").stdout)
    assert (good["site"], good["layers"], good["evidence"]) == ("1.resid_post", "all", sentence)
    assert "no direction file" in gone["error"]
    assert "removes 73%" in run("features").stdout
