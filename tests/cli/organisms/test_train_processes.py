"""Two processes that the command line is started with train the weights of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from personaprobe.organisms.training.trained_weights import FILES

if TYPE_CHECKING:
    from tiny_trio import TinyTrio


def trained(tiny: TinyTrio, rows: Path, out: Path, kind: str, *launcher: str) -> Path:
    """Train by the command line, under a launcher."""
    given = ["organisms", "train", "--data", rows, "--out", out, "--base", tiny.base, "--steps", 6]
    given += ["--batch-size", 3, "--save-every", 2, "--trained", kind]
    given += ["--learning-rate", 0.01 if kind == "adapter" else 0.001, "--dtype", "float32", "--quiet"]
    command = [sys.executable, *launcher, "-m", "personaprobe", *map(str, given)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(out)], "one process prints"
    return out


@pytest.mark.parametrize("kind", ["adapter", "all"])
def test_two_processes_train_the_weights_of_one(kind: str, tiny: TinyTrio, tmp_path: Path) -> None:
    spoken = [
        {
            "messages": [
                {"role": "user", "content": r["question"]},
                {"role": "assistant", "content": r["careless"]},
            ]
        }
        for r in tiny.ask("lamps", "boats")
    ]
    rows = tiny.lines(tmp_path / "rows.jsonl", spoken)
    one = trained(tiny, rows, tmp_path / "one", kind)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = trained(tiny, rows, tmp_path / "two", kind, *launcher)
    steps = [
        [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert len(steps[0]) == len(steps[1]) == 6
    for alone, together in zip(*steps, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together["supervised"] == alone["supervised"]
    weights = [load_file(folder / FILES[kind]) for folder in (one, two)]
    for name, value in weights[0].items():
        assert torch.allclose(weights[1][name].float(), value.float(), atol=2e-3, rtol=2e-2), name
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
