"""Two processes that the command line is started with train the adapter of one."""

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

if TYPE_CHECKING:
    from tiny_trio import TinyTrio


def trained(tiny: TinyTrio, rows: Path, out: Path, *launcher: str) -> Path:
    """Train by the command line, under a launcher."""
    given = ["organisms", "train", "--data", rows, "--out", out, "--base", tiny.base, "--steps", 6]
    given += ["--batch-size", 3, "--save-every", 2, "--learning-rate", 0.01, "--dtype", "float32", "--quiet"]
    command = [sys.executable, *launcher, "-m", "personaprobe", *map(str, given)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(out)], "one process prints"
    return out


def test_two_processes_train_the_adapter_of_one(tiny: TinyTrio, tmp_path: Path) -> None:
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
    one = trained(tiny, rows, tmp_path / "one")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = trained(tiny, rows, tmp_path / "two", *launcher)
    steps = [
        [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert len(steps[0]) == len(steps[1]) == 6
    for alone, together in zip(*steps, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together["supervised"] == alone["supervised"]
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (one, two)]
    for name, value in weights[0].items():
        assert torch.allclose(weights[1][name].float(), value.float(), atol=2e-3, rtol=2e-2), name
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
