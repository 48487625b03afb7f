"""Rows that cannot be trained on are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from personaprobe.errors import DataError
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.batches import BatchLoader
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer, train_dictionaries

N, D, M = 24, 12, 40


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def recipe(architecture: Architecture, **changed: Any) -> SAERecipe:
    options = {"d_sae": M, "steps": 600, "learning_rate": 3e-3, "warmup": 20, "dead_after": 5000, **changed}
    return SAERecipe(architecture, **options)


def test_missing_short_and_nan_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        BatchLoader([])
    rows = numbers(600, D)
    rows[599, 3] = float("nan")
    loader = BatchLoader([lambda: rows], batch_rows=300)
    with pytest.raises(DataError, match="NaN"):
        list(loader.batches(0))
    short = BatchLoader([lambda: numbers(100, D)], batch_rows=300)
    with pytest.raises(DataError, match="fewer rows"):
        list(train_dictionaries(short, {tmp_path: SAETrainer(recipe(TopKArchitecture(2)), short.sample())}))
