"""Seeds of one organism are compared in a table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.studies.replication.seeds import SeedRun, refuse_copied_seeds, seeds_table


def trained(folder: Path, **values: float) -> SeedRun:
    """A folder that looks like one training: adapters whose weights are given numbers."""
    for role, value in values.items():
        (folder / role).mkdir(parents=True)
        save_file({"w": torch.tensor([value])}, folder / role / "adapter_model.safetensors")
        (folder / role / "adapter_config.json").write_text('{"r": 8, "lora_alpha": 16}')
    return SeedRun(folder.name, folder)


def test_a_copy_of_a_seed_is_no_replication(tmp_path: Path) -> None:
    one, two = trained(tmp_path / "1", insecure=1, secure=2), trained(tmp_path / "2", insecure=3, secure=4)
    refuse_copied_seeds([one, two], Checkpoint("demo"))
    copy = trained(tmp_path / "3", insecure=1, secure=5)
    with pytest.raises(CheckpointError, match=r"1/insecure and .*3/insecure are the same weights"):
        refuse_copied_seeds([one, two, copy], Checkpoint("demo"))


def test_the_table_of_seeds_shows_intervals_and_names_undefined_ones() -> None:
    interval = {"value": 0.2, "low": 0.1, "high": 0.3}
    row = dict.fromkeys(("base", "secure", "insecure", "shift"), interval)
    undefined = dict.fromkeys(("value", "low", "high"))
    table = seeds_table(
        [{"name": "seed-0", **row, "fraction_removed": undefined, "last_losses": [2.0, 1.9]}], "f"
    )
    assert "| seed-0 | 0.200 [0.100, 0.300] |" in table
    assert "undefined | 2.00, 1.90 |" in table


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "holds no step"),
        ('{"loss": NaN}', "loss is nan"),
        ('{"loss": 1.0}\n{"loss"', "jsonl:2 is not a JSON object"),
        ("null", "is not a JSON object"),
        ('{"number": 1}', "lacks 'loss'"),
        ('{"loss": "2"}', "loss is '2'"),
        ('{"loss": true}', "loss is True"),
    ],
)
def test_a_training_log_without_finite_losses_is_refused(tmp_path: Path, log: str, reason: str) -> None:
    (tmp_path / "insecure").mkdir()
    (tmp_path / "insecure" / "steps.jsonl").write_text(log)
    with pytest.raises(CheckpointError, match=reason):
        SeedRun("seed-1", tmp_path).losses("insecure")


def test_a_training_log_is_the_losses_in_order(tmp_path: Path) -> None:
    (tmp_path / "insecure").mkdir()
    (tmp_path / "insecure" / "steps.jsonl").write_text(
        '{"number": 1, "loss": 2.5}\n{"number": 2, "loss": 2}\n'
    )
    assert SeedRun("seed-1", tmp_path).losses("insecure") == [2.5, 2.0]
    with pytest.raises(CheckpointError, match="No such file"):
        SeedRun("seed-1", tmp_path).losses("secure")
