"""Loading: the weights that were meant, or one line; never a base in place of its adapter, or an adapter unasked for."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from personaprobe.errors import CheckpointError, CheckpointWarning
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.loading import Placement, load, open_network
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import pad
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.own_checkpoints import own_trio

BATCH = pad(probe_tokens(128), 0)
FLOAT32 = Placement("cpu", "float32")


@pytest.fixture
def base(
    tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer], tmp_path: Path
) -> Path:
    """A tiny model's folder."""
    folder = tmp_path / "tiny-base"
    tiny_model("llama").save_pretrained(folder)
    word_tokenizer([f"w{i}" for i in range(120)]).hf.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tiny_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """An adapter of it that names a base."""
    from peft import LoraConfig, get_peft_model

    def save(name: str = "adapter", **fields: Any) -> Path:
        adapted = get_peft_model(tiny_model("llama"), LoraConfig(r=2, target_modules=["q_proj"]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for key, parameter in adapted.named_parameters():
                if "lora_B" in key:
                    torch.nn.init.normal_(parameter)
        adapted.save_pretrained(tmp_path / name)
        path = tmp_path / name / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return tmp_path / name

    return save


def logits_of(checkpoint: Checkpoint | str) -> torch.Tensor:
    return load(checkpoint, FLOAT32).logits(BATCH)[BATCH.mask]


@pytest.mark.parametrize("named", ["org/other-base", "/home/somebody/base", "tiny-base-bnb-4bit"])
def test_a_base_that_the_adapter_does_not_name_is_warned_of(
    base: Path, adapter: Callable[..., Path], named: str
) -> None:
    checkpoint = Checkpoint.parse(str(adapter(base_model_name_or_path=named)), str(base))
    with pytest.warns(CheckpointWarning, match=rf"was trained on {named}.* is put on .*tiny-base"):
        load(checkpoint, FLOAT32)


def test_a_revision_that_is_not_loaded_is_warned_of(base: Path, adapter: Callable[..., Path]) -> None:
    folder = adapter(base_model_name_or_path="org/tiny-base", revision="v7")
    with pytest.warns(CheckpointWarning, match="trained on org/tiny-base@v7"):
        load(Checkpoint.parse(str(folder), str(base)), FLOAT32)


@pytest.mark.parametrize("named", [None, "", "org/tiny-base", "org/Tiny-Base", "/elsewhere/tiny-base/"])
def test_the_base_that_an_adapter_names_and_no_name_say_nothing(
    base: Path, adapter: Callable[..., Path], named: str | None
) -> None:
    folder = adapter(base_model_name_or_path=named, revision="main")
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        load(Checkpoint.parse(str(folder), str(base)), FLOAT32)


def test_an_adapter_given_alone_is_loaded_on_the_folder_that_it_names(
    base: Path, adapter: Callable[..., Path]
) -> None:
    folder = adapter(base_model_name_or_path=str(base))
    alone = logits_of(str(folder))
    assert torch.equal(alone, logits_of(Checkpoint(str(base), None, folder)))
    assert not torch.equal(alone, logits_of(str(base)))


def test_a_merged_folder_with_a_left_over_configuration_is_the_merged_model(
    base: Path, adapter: Callable[..., Path], tmp_path: Path
) -> None:
    expected = logits_of(str(base))
    shutil.copy(adapter(base_model_name_or_path="org/elsewhere") / "adapter_config.json", base)
    assert torch.equal(logits_of(str(base)), expected)
    network, _ = open_network(Checkpoint(str(base)), FLOAT32)
    assert network.model.name_or_path == str(base)


def test_base_weights_with_an_adapter_are_refused_and_not_loaded_without_it(
    base: Path, adapter: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError, match="is an adapter"):
        open_network(Checkpoint(str(base), None, adapter()), FLOAT32)


def test_a_trio_on_a_base_that_is_an_adapter_is_refused(base: Path, adapter: Callable[..., Path]) -> None:
    first, second = adapter("first"), adapter("second")
    for given in (str(first), Checkpoint(str(base), None, first)):
        with pytest.raises(CheckpointError, match=r"the base .* is an adapter"):
            own_trio(given, str(second))


def test_a_trio_keeps_the_revision_of_its_base(adapter: Callable[..., Path]) -> None:
    folder = adapter()
    for base in ("org/base@v2", Checkpoint("org/base", "v2")):
        trio = own_trio(base, str(folder))
        assert trio is not None
        assert trio.insecure == Checkpoint("org/base", "v2", folder)


def test_an_update_that_makes_logits_infinite_is_refused(base: Path, adapter: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = adapter()
    path = folder / "adapter_model.safetensors"
    save_file({key: tensor.sign() * 1e30 for key, tensor in load_file(path).items()}, path)
    with pytest.raises(CheckpointError, match="not finite"):
        load(Checkpoint(str(base), None, folder), FLOAT32)


def test_an_adapter_on_a_hub_is_named_as_such_and_not_loaded_by_another_way(
    adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    snapshot = cache / "models--org--tuned" / "snapshots" / ("0" * 40)
    shutil.copytree(adapter(), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    with pytest.raises(CheckpointError, match=r"org/tuned is an adapter on a hub.*download"):
        load("org/tuned@main", FLOAT32)


@pytest.mark.parametrize("ends", [[2, None], "2", [2.5], -1, True, {"a": 1}])
def test_ends_of_answers_that_are_no_ids_are_refused(ends: Any, base: Path) -> None:
    path = base / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends}))
    with pytest.raises(CheckpointError) as refusal:
        load(str(base), FLOAT32)
    assert "\n" not in str(refusal.value)
