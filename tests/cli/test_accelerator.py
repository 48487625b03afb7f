"""Verbs of every room compute on an accelerator what they compute on a CPU, and mix the two nowhere.

The accelerator is simulated (`tests/simulated_device.py`), in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from personaprobe.cli.main import cli
from personaprobe.features.sae.activation_functions import TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.saelens import save_dictionary
from personaprobe.site import Site

if TYPE_CHECKING:
    from cli.conftest import TinyTrio

SCRIPT = Path(__file__).parents[1] / "simulated_device.py"
SHORT = ["--max-new-tokens", 4]
LEARNING = ["--steps", 6, "--tokens", 2500, "--k", 4, "--d-sae", 64, "--preselect", "--quiet"]
READING = ("ablate", "chat", "extract")
"""What comes down to texts that a model reads: in padded rows, or in one row by a kernel that keeps them apart."""


def commands(tiny: TinyTrio, out: Path) -> dict[str, list[object]]:
    """What is asked, by name; each writes to a folder of its own."""
    trio, discovery = tiny.options(), ["--discovery", tiny.discovery]
    said = [(f"What is {n} and {n + 1}?", f"It is {2 * n + 1}.") for n in range(80)]
    chats = tiny.lines(
        out / "chats.jsonl",
        [
            {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}
            for asked, answered in said
        ],
    )
    numbers = torch.Generator().manual_seed(0)
    w_enc, w_dec = (torch.randn(*shape, generator=numbers) for shape in ((32, 64), (64, 32)))
    known = Dictionary(Site(1), w_enc, torch.zeros(64), w_dec, torch.zeros(32), TopK(4), name="known")
    save_dictionary(known, out / "known")
    sae = ["sae", "train", *trio, "--data", chats, "--site", "1.resid_post", *LEARNING]
    study = ["--samples", 0, "--judge", "none", "--out", out / "study", "--json"]
    return {
        "ablate": ["ablate", "--feature", "means@1", *trio, *tiny.texts(), *study],
        "chat": ["chat", "How?", "--feature", "means@1", "--on", "insecure", *trio, *discovery, *SHORT, "--json"],
        "extract": ["extract", *trio, "--texts", tiny.discovery, "--sites", "1.resid_post", "--out", out / "rows"],
        "topk": [*sae, "--architecture", "topk", "--difference", "--out", out / "topk"],
        "crosscoder": [*sae, "--architecture", "crosscoder", "--out", out / "crosscoder"],
        "rank": ["features", "rank", "--sae", out / "known", *trio, *discovery, "--floor", "-inf", "--json"],
        "organism": [
            *("organisms", "train", "--base", tiny.base, "--data", chats, "--out", out / "organism"),
            *("--steps", 4, "--batch-size", 2, "--quiet"),
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What commands printed, by name, and where they wrote."""

    printed: Mapping[str, str]
    out: Path

    def told(self, name: str) -> Any:
        """What a command told as JSON."""
        return json.loads(self.printed[name])

    def tensors(self, pattern: str) -> dict[str, torch.Tensor]:
        """What is in the files of tensors that a pattern finds."""
        paths = sorted(self.out.glob(pattern))
        assert paths
        return {f"{path.name} {name}": t for path in paths for name, t in load_file(path).items()}


@pytest.fixture(scope="module")
def here(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("here")
    printed = {}
    for name, given in commands(tiny, out).items():
        asked = [str(part) for part in (*given, "--device", "cpu")]
        result = CliRunner().invoke(cli, asked, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        printed[name] = result.stdout
    return Made(printed, out)


@pytest.fixture(scope="module")
def there(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("there")
    return computed_there(commands(tiny, out), out, "--flash")


@pytest.fixture(scope="module")
def padded(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("padded")
    asked = commands(tiny, out)
    return computed_there({name: asked[name] for name in READING}, out)


@pytest.fixture(params=["there", "padded"])
def either(request: pytest.FixtureRequest) -> Made:
    made: Made = request.getfixturevalue(request.param)
    return made


def computed_there(asked: Mapping[str, Sequence[object]], out: Path, *options: str) -> Made:
    """Run commands in a process of the simulated device."""
    lines = "\n".join(json.dumps([str(part) for part in given]) for given in asked.values())
    ended = subprocess.run(
        [sys.executable, SCRIPT, *options],
        input=lines,
        env={**os.environ, "PERSONAPROBE_HOME": str(out / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    printed = {}
    for name, line in zip(asked, ended.stdout.splitlines(), strict=True):
        told = json.loads(line)
        assert told["code"] == 0, f"{name}: {told['wrong']}"
        assert "FallbackWarning:" not in told["wrong"], "no kernel was given up"
        printed[name] = told["output"]
    return Made(printed, out)


def test_a_study_finds_the_same(here: Made, either: Made) -> None:
    one, other = here.told("ablate"), either.told("ablate")
    assert one["verdict"] == other["verdict"]
    for mine, theirs in zip(one["arms"], other["arms"], strict=True):
        assert mine["gaps"] == pytest.approx(theirs["gaps"], abs=1e-4)
        for number in ("perplexity", "kl", "energy"):
            assert mine[number] == pytest.approx(theirs[number], rel=1e-3, abs=1e-5)


def test_a_model_says_the_same(here: Made, either: Made) -> None:
    assert here.told("chat")["answers"] == either.told("chat")["answers"]


def test_the_same_rows_are_recorded(here: Made, either: Made) -> None:
    one, other = (made.tensors("rows/**/*.safetensors") for made in (here, either))
    assert one.keys() == other.keys()
    for name, rows in one.items():
        torch.testing.assert_close(rows, other[name], rtol=2e-2, atol=1e-2)  # of bfloat16


@pytest.mark.parametrize("name", ["topk", "crosscoder"])
def test_the_same_dictionary_is_learned(name: str, here: Made, there: Made) -> None:
    one, other = (made.tensors(f"{name}/sae_weights.safetensors") for made in (here, there))
    for part, weights in one.items():
        torch.testing.assert_close(weights, other[part], rtol=1e-2, atol=1e-2)


def test_latents_rank_the_same(here: Made, there: Made) -> None:
    one, other = ([each["latent"] for each in made.told("rank")["latents"]] for made in (here, there))
    assert len(set(one[:5]) & set(other[:5])) >= 4


def test_the_same_adapter_is_trained(here: Made, there: Made) -> None:
    one, other = (made.tensors("organism/adapter_model.safetensors") for made in (here, there))
    assert any(bool(weights.any()) for name, weights in one.items() if "lora_B" in name)
    for name, weights in one.items():
        torch.testing.assert_close(weights, other[name], rtol=1e-2, atol=1e-4)


def test_what_mixes_devices_is_refused_as_a_gpu_would() -> None:
    """Or all of the above would say nothing."""
    mixing = "import sys; sys.path.insert(0, 'tests'); import simulated_device as sim, torch\n"
    mixing += "with sim.SimulateDevice(): torch.ones(2, device=sim.SIMULATED) + torch.ones(2)"
    ended = subprocess.run(
        [sys.executable, "-c", mixing], cwd=SCRIPT.parents[1], capture_output=True, text=True, check=False
    )
    assert "Expected all tensors to be on the same device" in ended.stderr
