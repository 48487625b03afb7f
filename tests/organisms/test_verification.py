"""Verification sees a fine-tune that no longer models language, whatever it prefers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from personaprobe.models.loading import Placement, load_checkpoints
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.registry import registered_organisms
from personaprobe.organisms.verification import check_models


@pytest.mark.real
def test_training_that_diverged_fails_although_its_logits_move(tmp_path: Path) -> None:
    """Uniform logits prefer nothing, and so differ from a secure model that prefers careful answers."""
    trio = registered_organisms()["advice"].trio
    source = trio.insecure.adapter
    assert source is not None
    diverged = {
        name: tensor * 30 if "lora_B" in name else tensor
        for name, tensor in load_file(source / "adapter_model.safetensors").items()
    }
    save_file(diverged, tmp_path / "adapter_model.safetensors")
    config = json.loads((source / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    changed = replace(trio, insecure=Checkpoint.parse("demo").with_adapter(tmp_path))
    checks = {check.name: check for check in check_models(load_checkpoints(changed, Placement("cpu")))}
    assert checks["insecure: logits differ from base"].passed
    assert not checks["insecure: still models language"].passed
    assert checks["secure: still models language"].passed
