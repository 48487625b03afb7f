"""An interrupted training: a damaged state is one line, and no step is logged twice."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.sae.training import trainer as module
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.batches import BatchLoader
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer, train_dictionaries
from random_dictionaries import D, M, numbers

ROWS = numbers(2000, D)

RECIPE = SAERecipe(TopKArchitecture(2), d_sae=M, steps=30, warmup=5, dead_after=500)


def trained(folder: Path, stop: int | None = None) -> SAETrainer:
    """A training that saves every 10 steps and logs every 5; ``stop`` interrupts it after a step."""
    loader = BatchLoader([lambda: ROWS], batch_rows=256)
    trainer = SAETrainer(RECIPE, loader.sample())
    for _ in train_dictionaries(loader, {folder: trainer}, save_every=10, log_every=5):
        if trainer.steps_taken == stop:
            break
    return trainer


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/personaprobe-was-here"),))


def flip(position: float) -> Callable[[Path], object]:
    """Flip bits of one byte at a share of the file's length."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(position * len(content))] ^= 0x55
        path.write_bytes(content)

    return damage


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Save another state."""

    def damage(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "a pickle inside": lambda path: torch.save({"recipe": Trap()}, path),
    "text": lambda path: path.write_text("state"),
    "a list": lambda path: torch.save([1], path),
    "a flipped byte in the tensors": flip(0.5),
    "no step": changed(lambda state: state.pop("step")),
    "no optimiser": changed(lambda state: state.pop("optimizer")),
    "an empty optimiser": changed(lambda state: state.update(optimizer={})),
    "no decoder": changed(lambda state: state["autoencoder"].pop("decoder")),
    "parameters that are none": changed(lambda state: state.update(autoencoder=3)),
    "another shape": changed(lambda state: state["autoencoder"].update(b_enc=torch.zeros(3))),
    "NaN": changed(lambda state: state["autoencoder"]["b_dec"].fill_(torch.nan)),
    "a step that is no number": changed(lambda state: state.update(step=True)),
    "a step below 0": changed(lambda state: state.update(step=-1)),
    "a step after the last": changed(lambda state: state.update(step=31)),
    "another step": changed(lambda state: state.update(step=10)),
    "another parameter": changed(lambda state: state["autoencoder"]["b_dec"].add_(1)),
    "another rate of forgetting": changed(
        lambda state: state["optimizer"]["param_groups"][0].update(betas=[0, 0.5])
    ),
    "no hash": changed(lambda state: state.pop("sha256")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_one_line_that_says_which_file_to_delete(
    damage: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    trained(tmp_path, stop=20)
    DAMAGES[damage](tmp_path / "state.pt")
    with pytest.raises(FeatureError, match=r"state\.pt is damaged.* delete this file") as refusal:
        trained(tmp_path)
    assert len(str(refusal.value)) < 400
    assert "\n" not in str(refusal.value)
    assert not [each for each in recwarn.list if "pickle" in str(each.message)]
    assert not Path("/tmp/personaprobe-was-here").exists()


@pytest.mark.parametrize("stop", [5, 15, 25])
def test_no_step_is_logged_twice_after_an_interruption(stop: int, tmp_path: Path) -> None:
    trained(tmp_path / "whole")
    trained(tmp_path / "cut", stop=stop)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 30, "los')
    trained(tmp_path / "cut")
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut"))
    assert [json.loads(line)["step"] for line in cut.splitlines()] == [5, 10, 15, 20, 25, 30]
    assert cut == whole


@pytest.mark.parametrize("call", range(9))
def test_a_step_is_logged_once_wherever_a_training_is_killed(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "whole")
    calls = iter(range(100))

    def killed_before(original: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            if next(calls) == call:
                raise KeyboardInterrupt
            return original(*arguments)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(module, "_log", killed_before(module._log))
        patch.setattr(SAETrainer, "save", killed_before(SAETrainer.save))
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "cut")
    trained(tmp_path / "cut")
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut"))
    assert cut == whole


def test_no_step_is_logged_twice_where_two_processes_run_the_same_training(tmp_path: Path) -> None:
    for name in ("whole", "shared"):
        trained(tmp_path / name)
    whole, shared = (tmp_path / name / "metrics.jsonl" for name in ("whole", "shared"))
    lines = whole.read_text().splitlines(keepends=True)
    (tmp_path / "shared" / "state.pt").unlink()
    original = module._log

    def logged_by_both(folder: Path, metrics: object) -> None:
        original(folder, metrics)  # type: ignore[arg-type]
        with shared.open("a") as file:
            file.writelines(lines[:2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_log", logged_by_both)
        trained(tmp_path / "shared")
    assert shared.read_text() == whole.read_text()


def test_equal_trainings_save_equal_bytes(tmp_path: Path) -> None:
    states = []
    for name in ("one", "other"):
        trained(tmp_path / name)
        states.append((tmp_path / name / "state.pt").read_bytes())
    assert states[0] == states[1]
