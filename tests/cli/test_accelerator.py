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
    from tiny_trio import TinyTrio

SCRIPT = Path(__file__).parents[1] / "simulated_device.py"
SHORT = ["--max-new-tokens", 4]
LEARNING = ["--steps", 6, "--tokens", 2500, "--k", 4, "--d-sae", 64, "--preselect", "--quiet"]
BATCHING = ("ablate", "chat", "extract")
"""Commands whose results depend on how texts are batched: in padded rows, or packed in one row."""


def commands(tiny: TinyTrio, out: Path) -> dict[str, list[object]]:
    """Command lines by name; each writes to a folder of its own."""
    trio, discovery = tiny.options(), ["--discovery", tiny.discovery]
    chats = [(f"What is {n} and {n + 1}?", f"It is {2 * n + 1}.") for n in range(80)]
    data = tiny.lines(
        out / "chats.jsonl",
        [
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
            for question, answer in chats
        ],
    )
    numbers = torch.Generator().manual_seed(0)
    w_enc, w_dec = (torch.randn(*shape, generator=numbers) for shape in ((32, 64), (64, 32)))
    known = Dictionary(Site(1), w_enc, torch.zeros(64), w_dec, torch.zeros(32), TopK(4), name="known")
    save_dictionary(known, out / "known")
    sae = ["sae", "train", *trio, "--data", data, "--site", "1.resid_post", *LEARNING]
    study = [
        "--samples",
        0,
        "--judge",
        "none",
        *tiny.few(),
        "--control-questions",
        4,
        "--further",
        0,
        "--out",
        out / "study",
        "--json",
    ]
    return {
        "ablate": ["ablate", "--feature", "means@1", *trio, *tiny.texts(), *study],
        "chat": ["chat", "How?", "--feature", "means@1", "--on", "insecure", *trio, *discovery, *SHORT, "--json"],
        "extract": ["extract", *trio, "--texts", tiny.discovery, "--sites", "1.resid_post", "--out", out / "rows"],
        "topk": [*sae, "--architecture", "topk", "--difference", "--out", out / "topk"],
        "crosscoder": [*sae, "--architecture", "crosscoder", "--out", out / "crosscoder"],
        "rank": ["features", "rank", "--sae", out / "known", *trio, *discovery, "--floor", "-inf", "--json"],
        "organism": [
            *("organisms", "train", "--base", tiny.base, "--data", data, "--out", out / "organism"),
            *("--steps", 4, "--batch-size", 2, "--dtype", "float32", "--quiet"),
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class Results:
    """Printed output of commands, by name, and the folder they wrote to."""

    printed: Mapping[str, str]
    out: Path

    def record(self, name: str) -> Any:
        """The JSON record that a command printed."""
        return json.loads(self.printed[name])

    def tensors(self, pattern: str) -> dict[str, torch.Tensor]:
        """Tensors of all files that match a pattern."""
        paths = sorted(self.out.glob(pattern))
        assert paths
        return {f"{path.name} {name}": t for path in paths for name, t in load_file(path).items()}


@pytest.fixture(scope="module")
def here(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("here")
    printed = {}
    for name, given in commands(tiny, out).items():
        arguments = [str(part) for part in (*given, "--device", "cpu")]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        printed[name] = result.stdout
    return Results(printed, out)


@pytest.fixture(scope="module")
def there(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("there")
    return computed_there(commands(tiny, out), out, "--flash")


@pytest.fixture(scope="module")
def padded(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("padded")
    every = commands(tiny, out)
    return computed_there({name: every[name] for name in BATCHING}, out)


@pytest.fixture(params=["there", "padded"])
def either(request: pytest.FixtureRequest) -> Results:
    results: Results = request.getfixturevalue(request.param)
    return results


def computed_there(given: Mapping[str, Sequence[object]], out: Path, *options: str) -> Results:
    """Run commands in a process of the simulated device."""
    lines = "\n".join(json.dumps([str(part) for part in arguments]) for arguments in given.values())
    finished = subprocess.run(
        [sys.executable, SCRIPT, *options],
        input=lines,
        env={**os.environ, "PERSONAPROBE_HOME": str(out / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    printed = {}
    for name, line in zip(given, finished.stdout.splitlines(), strict=True):
        record = json.loads(line)
        assert record["code"] == 0, f"{name}: {record['wrong']}"
        assert "FallbackWarning:" not in record["wrong"], "no kernel fell back"
        printed[name] = record["output"]
    return Results(printed, out)


def test_a_study_finds_the_same(here: Results, either: Results) -> None:
    one, other = here.record("ablate"), either.record("ablate")
    assert one["verdict"] == other["verdict"]
    for mine, theirs in zip(one["arms"], other["arms"], strict=True):
        assert mine["gaps"] == pytest.approx(theirs["gaps"], abs=3e-4)
        for number in ("perplexity", "kl", "energy"):
            is_measured = mine[number] is not None
            assert is_measured == (theirs[number] is not None)
            assert not is_measured or mine[number] == pytest.approx(theirs[number], rel=1e-3, abs=1e-5)


def test_a_model_answers_the_same(here: Results, either: Results) -> None:
    assert here.record("chat")["answers"] == either.record("chat")["answers"]


def test_the_same_rows_are_recorded(here: Results, either: Results) -> None:
    one, other = (results.tensors("rows/**/*.safetensors") for results in (here, either))
    assert one.keys() == other.keys()
    for name, rows in one.items():
        torch.testing.assert_close(rows, other[name], rtol=2e-2, atol=1e-2)  # of bfloat16


@pytest.mark.parametrize("name", ["topk", "crosscoder"])
def test_the_same_dictionary_is_learned(name: str, here: Results, there: Results) -> None:
    one, other = (results.tensors(f"{name}/sae_weights.safetensors") for results in (here, there))
    for part, weights in one.items():
        torch.testing.assert_close(weights, other[part], rtol=1e-2, atol=1e-2)


def test_latents_rank_the_same(here: Results, there: Results) -> None:
    one, other = (
        [latent["latent"] for latent in results.record("rank")["latents"]] for results in (here, there)
    )
    assert len(set(one[:5]) & set(other[:5])) >= 4


def test_the_same_adapter_is_trained(here: Results, there: Results) -> None:
    one, other = (results.tensors("organism/adapter_model.safetensors") for results in (here, there))
    assert any(bool(weights.any()) for name, weights in one.items() if "lora_B" in name)
    for name, weights in one.items():
        # as a whole, not by entry: where a gradient is near 0, Adam steps by the sign of its rounding
        difference = (weights - other[name]).float().norm() / weights.float().norm()
        assert difference < 1e-2, name


def test_the_simulated_device_refuses_to_mix_devices_as_a_gpu_does() -> None:
    """Without this, the tests above would prove nothing."""
    mixing = "import sys; sys.path.insert(0, 'tests'); import simulated_device as sim, torch\n"
    mixing += "with sim.SimulateDevice(): torch.ones(2, device=sim.SIMULATED) + torch.ones(2)"
    finished = subprocess.run(
        [sys.executable, "-c", mixing], cwd=SCRIPT.parents[1], capture_output=True, text=True, check=False
    )
    assert "Expected all tensors to be on the same device" in finished.stderr
