"""A self-check that passed is kept, and made again wherever anything that it depends on has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import torch

from personaprobe.errors import CheckpointError, FallbackWarning
from personaprobe.models import loading
from personaprobe.models.loading import Placement, load, load_checkpoints
from personaprobe.models.self_check import proofs
from personaprobe.models.self_check.check import Check
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from tiny_trio import build_tiny_trio, write_adapter


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def base(tmp_path: Path, home: Path) -> Path:
    return build_tiny_trio(tmp_path).base


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[Check]]:
    """Every self-check that is made."""
    results: list[list[Check]] = []

    def counted(*arguments: Any) -> list[Check]:
        results.append(made(*arguments))
        return results[-1]

    made = loading.self_check
    monkeypatch.setattr(loading, "self_check", counted)
    return results


def loaded(base: Path, dtype: str = "float32") -> Any:
    return load(str(base), Placement("cpu", dtype))


def test_the_same_model_is_checked_once(base: Path, made: list[list[Check]]) -> None:
    first, second = loaded(base), loaded(base)
    assert len(made) == 1
    assert str(first.network.layout) == str(second.network.layout)


def change_config(base: Path) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 1e-4}))


def change_weights(base: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(base / "model.safetensors")
    weights["model.layers.2.mlp.down_proj.weight"][0, 0] += 0.5
    save_file(weights, base / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("change", [change_config, change_weights])
def test_another_model_is_checked(
    change: Callable[[Path], None], base: Path, made: list[list[Check]]
) -> None:
    loaded(base)
    change(base)
    loaded(base)
    assert len(made) == 2


def test_another_precision_and_other_code_are_checked(
    base: Path, made: list[list[Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(base)
    loaded(base, "bfloat16")
    assert len(made) == 2
    monkeypatch.setattr(proofs, "_code", lambda: {"code": "other"})
    loaded(base)
    assert len(made) == 3


def test_a_check_that_fails_is_made_again_at_every_load(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, n_made = loading.self_check, 0

    def failing(*arguments: Any) -> list[Check]:
        nonlocal n_made
        n_made += 1
        first, *others = usual(*arguments)
        return [replace(first, passed=False, needed_by="model"), *others]

    monkeypatch.setattr(loading, "self_check", failing)
    for n in (1, 2):
        with pytest.raises(CheckpointError, match="fails its self-check"):
            loaded(base)
        assert n_made >= n
    monkeypatch.setattr(loading, "self_check", usual)
    loaded(base)


@pytest.mark.parametrize("damage", ["changed", "cut", "other"])
def test_a_kept_result_that_was_changed_is_not_believed(
    damage: str, base: Path, home: Path, made: list[list[Check]]
) -> None:
    loaded(base)
    [path] = (home / proofs.FOLDER).glob("*.json")
    text = path.read_text()
    content = {"changed": text.replace("logits", "logit", 1), "cut": text[:50], "other": '{"a": 1}'}
    path.write_text(content[damage])
    with pytest.warns(FallbackWarning, match=path.name):
        loaded(base)
    assert len(made) == 2


def test_without_a_place_to_keep_it_a_model_is_checked_at_every_load(
    base: Path, home: Path, made: list[list[Check]]
) -> None:
    home.mkdir(exist_ok=True)
    (home / proofs.FOLDER).write_text("a file in the place of the folder")
    for n in (1, 2):
        loaded(base)
        assert len(made) == n


def test_a_model_in_memory_is_always_checked(
    tiny_model: Callable[..., Any], home: Path, made: list[list[Check]]
) -> None:
    for n in (1, 2):
        loading.wrap(tiny_model("llama"), 0)
        assert len(made) == n
    assert not (home / proofs.FOLDER).exists()


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Every adapter that is proven to act."""
    adapters: list[Path | None] = []

    def counted(model: Any) -> Check:
        adapters.append(model.checkpoint.adapter)
        return usual(model)

    usual = loading._prove_applied
    monkeypatch.setattr(loading, "_prove_applied", counted)
    return adapters


def rescale(adapter: Path) -> None:
    path = adapter / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"lora_alpha": 2 * content["lora_alpha"]}))


def retrain(adapter: Path) -> None:
    rmtree(adapter)
    write_adapter(adapter, seed=7)


def change_base(adapter: Path) -> None:
    change_weights(adapter.with_name("base"))


@pytest.mark.parametrize("change", [rescale, retrain, change_base])
def test_an_adapter_is_proven_to_act_once_and_again_after_it_or_its_base_changed(
    change: Callable[[Path], None], base: Path, proven: list[Path | None]
) -> None:
    insecure, secure = (
        Checkpoint(str(base), adapter=base.with_name(name)) for name in ("insecure", "secure")
    )
    for _ in range(2):
        trio = load_checkpoints(Trio(Checkpoint(str(base)), insecure, secure), Placement("cpu", "float32"))
        assert proven == [insecure.adapter, secure.adapter]
    assert trio.insecure.adapter is not None
    change(insecure.adapter)
    load(insecure, Placement("cpu", "float32"))
    assert proven[2:] == [insecure.adapter]


def test_an_adapter_that_does_not_act_is_refused_at_every_load(base: Path) -> None:
    insecure = Checkpoint(str(base), adapter=write_adapter(base.with_name("idle"), seed=1, size=0.0))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="changes nothing"):
            load(insecure, Placement("cpu", "float32"))


def test_every_value_of_a_small_weight_counts() -> None:
    class Model(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3, 5))
            self.weight.data[2, 4] = value

    assert list(proofs._weights(Model(0))) != list(proofs._weights(Model(1)))
