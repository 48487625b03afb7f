"""Adapters as PEFT saves them."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def saved_once(
    tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Save a PEFT adapter of a tiny model, with random B so that it does something; equal ones once."""
    from peft import LoraConfig, get_peft_model

    folders: dict[str, Path] = {}

    def save(architecture: str, **config: Any) -> Path:
        wanted = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | config
        key = f"{architecture} {wanted}"
        if key not in folders:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(1)
                adapted = get_peft_model(tiny_model(architecture), LoraConfig(**wanted))
                for name, parameter in adapted.named_parameters():
                    if "lora_B" in name:
                        torch.nn.init.normal_(parameter, std=0.1)
                folders[key] = tmp_path_factory.mktemp("saved")
                adapted.save_pretrained(folders[key], save_embedding_layers=False)
        return folders[key]

    return save


@pytest.fixture
def saved(saved_once: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a PEFT adapter of a tiny model, to be changed."""

    def copy(architecture: str = "llama", name: str = "adapter", **config: Any) -> Path:
        return Path(shutil.copytree(saved_once(architecture, **config), tmp_path / name, dirs_exist_ok=True))

    return copy
