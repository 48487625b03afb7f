"""``personaprobe features``: the list of registered features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

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


BAD_ENTRIES = {
    "no-table": "no-table = 5",
    "list": "list = [1]",
    "empty": "[empty]",
    "title": '[title]\ndirection = "good.safetensors"\nsha256 = "SHA"\ntitle = 3',
    "layers": '[layers]\ndirection = "good.safetensors"\nsha256 = "SHA"\nlayers = 5',
    "layer": '[layer]\ndirection = "good.safetensors"\nsha256 = "SHA"\nlayers = [1, true]',
    "strength": '[strength]\ndirection = "good.safetensors"\nsha256 = "SHA"\nstrength = nan',
    "misspelt": '[misspelt]\ndirection = "good.safetensors"\nsha256 = "SHA"\nstrenght = 0.5',
    "to": '[to]\ndirection = "good.safetensors"\nsha256 = "SHA"\nto = "nowhere"',
    "number": "[number]\ndirection = 5",
    "folder": '[folder]\ndirection = "."\nsha256 = ""',
    "long": f'[long]\ndirection = "{"n" * 300}"\nsha256 = ""',
    "unhashed": '[unhashed]\ndirection = "good.safetensors"',
    "latents": '[latents-text]\nsae = "advice-21"\ndictionary = "x"\nlatents = "12"',
    "no-dictionary": '[no-dictionary]\nsae = "none"\ndictionary = "x"\nlatents = [1]',
    "cut-evidence": '[cut-evidence]\ndirection = "good.safetensors"\nsha256 = "SHA"\nevidence = "cut.json"',
    "odd-evidence": '[odd-evidence]\ndirection = "good.safetensors"\nsha256 = "SHA"\nevidence = "odd.json"',
    "deep-evidence": '[deep-evidence]\ndirection = "good.safetensors"\nsha256 = "SHA"\nevidence = "deep.json"',
    "evidence": '[evidence]\ndirection = "good.safetensors"\nsha256 = "SHA"\nevidence = [1]',
}


def test_a_bad_entry_is_listed_with_its_error_and_hides_no_other(
    registered: Path, run: Run, tiny: TinyTrio
) -> None:
    from personaprobe.storage.digests import sha256_of

    digest = sha256_of(tiny.direction(registered / "good.safetensors"))
    write(registered / "cut.json", '{"chosen": {"frac')
    write(registered / "odd.json", '{"chosen": [1]}')
    write(registered / "deep.json", "[" * 100_000)
    good = f'[good]\ndirection = "good.safetensors"\nsha256 = "{digest}"'
    # tables last: what follows a table's heading belongs to it
    entries = sorted(BAD_ENTRIES.values(), key=lambda entry: entry.startswith("["))
    write(registered / "features.toml", "\n".join([*entries, good]).replace("SHA", digest) + "\n")
    result = run("features", "--json")
    assert result.exit_code == 0, result.output
    listed = json.loads(result.stdout)
    assert len(listed) == len(BAD_ENTRIES) + 1
    errors = {row["name"]: row["error"] for row in listed}
    assert errors.pop("good") is None
    assert all(errors.values()), [name for name, error in errors.items() if not error]
    assert all(len(error) < 700 and "\n" not in error for error in errors.values())
    assert run("features").exit_code == 0
