"""A user's text stands for one model, or is refused with what was probably meant, before anything is downloaded."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.models.weights.packaged import DEMO, DEMO_MODEL
from personaprobe.models.weights.sources import holds_adapter, model_name

HUB_ID = DEMO_MODEL.hub_id

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
MODEL = ("config.json", "model.safetensors")


def folder_of(path: Path, *files: str, **config: Any) -> Path:
    """A folder of files; the fields are of its adapter configuration."""
    path.mkdir(parents=True)
    for name in files:
        (path / name).write_text(json.dumps({"peft_type": "LORA"} | config) if name == ADAPTER[0] else "{}")
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and a folder of our own to be in."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)


def refusal_of(text: str, base: str | None = None) -> str:
    with pytest.raises(CheckpointError) as refusal:
        Checkpoint.parse(text, base)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


SHARDED = ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json")
FOLDERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "adapter": (ADAPTER, True),
    "adapter with a configuration of its base": ((*ADAPTER, "config.json", "tokenizer.json"), True),
    "adapter without weights": (ADAPTER[:1], True),
    "pickled adapter": ((ADAPTER[0], "adapter_model.bin"), True),
    "model": (MODEL, False),
    "merged model with what was left of an adapter": ((*MODEL, ADAPTER[0]), False),
    "sharded merged model with what was left of an adapter": ((*SHARDED, ADAPTER[0]), False),
    "model with adapter weights that nothing configures": ((*MODEL, ADAPTER[1]), False),
    "nothing": ((), False),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_is_an_adapter_unless_it_holds_a_whole_model(tmp_path: Path, case: str) -> None:
    files, is_adapter = FOLDERS[case]
    folder = folder_of(tmp_path / "folder", *files)
    assert holds_adapter(folder) == is_adapter
    checkpoint = Checkpoint.parse(str(folder))
    assert checkpoint == (Checkpoint(DEMO, None, folder) if is_adapter else Checkpoint(str(folder)))


@pytest.mark.parametrize("files", [(*MODEL, *ADAPTER), (*SHARDED, ADAPTER[0], "adapter_model.bin")])
def test_a_folder_with_both_weights_is_refused(tmp_path: Path, files: tuple[str, ...]) -> None:
    assert "a whole model and an adapter" in refusal_of(str(folder_of(tmp_path / "folder", *files)))


@pytest.mark.parametrize("named", [HUB_ID, HUB_ID.lower(), "unsloth/SmolLM2-135M-Instruct", None, "", 3])
def test_an_adapter_of_the_demo_or_of_no_named_base_is_put_on_the_demo(tmp_path: Path, named: Any) -> None:
    folder = folder_of(tmp_path / "adapter", *ADAPTER, base_model_name_or_path=named)
    assert Checkpoint.parse(str(folder)) == Checkpoint(DEMO, None, folder)


def test_an_adapter_is_put_on_the_folder_that_it_names(tmp_path: Path) -> None:
    base = folder_of(tmp_path / "base", *MODEL)
    folder = folder_of(tmp_path / "adapter", *ADAPTER, base_model_name_or_path=str(base), revision="x")
    assert Checkpoint.parse(str(folder)) == Checkpoint(str(base), None, folder)
    assert Checkpoint.parse(str(folder), DEMO) == Checkpoint(DEMO, None, folder)
    assert Checkpoint.parse(str(folder), "org/base@v2") == Checkpoint("org/base", "v2", folder)


@pytest.mark.parametrize("named", ["HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen2.5-14B", "/home/somebody/base"])
def test_an_adapter_whose_base_is_not_here_is_not_put_on_the_demo(tmp_path: Path, named: str) -> None:
    folder = folder_of(tmp_path / "adapter", *ADAPTER, base_model_name_or_path=named)
    message = refusal_of(str(folder))
    assert named in message
    assert "--base" in message


def test_an_adapter_whose_base_is_an_adapter_is_refused(tmp_path: Path) -> None:
    """Nothing is left out in silence: not the base's adapter, whoever names it."""
    first = folder_of(tmp_path / "first", *ADAPTER)
    second = folder_of(tmp_path / "second", *ADAPTER, base_model_name_or_path=str(first))
    for text, base in ((str(second), str(first)), (str(second), None)):
        assert f"the base {first} is an adapter" in refusal_of(text, base)
    with pytest.raises(CheckpointError, match=r"is an adapter.*merge"):
        Checkpoint.parse_base(str(first))
    with pytest.raises(CheckpointError, match=r"is an adapter.*merge"):
        Checkpoint.parse(str(first)).with_adapter(second)
    with pytest.raises(CheckpointError, match=r"is an adapter.*merge"):
        Checkpoint.parse(str(second), Checkpoint.parse(str(first)))


@pytest.mark.parametrize("text", ["", " ", "\n", "@main"])
def test_an_empty_text_is_refused(text: str) -> None:
    refusal_of(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("runs/insecur", "runs/insecure"),
        ("runs/Insecure", "runs/insecure"),
        ("./runs/insecur", "runs/insecure"),
        ("my-modle", "my-model"),
        ("demos", "demo"),
        ("Demo", "demo"),
        ("runs/a/chekpoint", "runs/a/checkpoint"),
    ],
)
def test_a_mistyped_name_is_refused_with_what_was_meant(tmp_path: Path, text: str, meant: str) -> None:
    for name in ("runs/insecure", "my-model", "runs/a/checkpoint"):
        (tmp_path / name).mkdir(parents=True)
    assert f"did you mean {meant}?" in refusal_of(text)


@pytest.mark.parametrize("text", ["org/model", "org/model@v2", "gpt2", "runs/insecur@main"])
def test_a_name_that_resembles_nothing_here_or_has_a_revision_is_a_hugging_face_id(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "runs" / "insecure").mkdir(parents=True)
    assert str(Checkpoint.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["/no/such/folder", "~nosuchuser/x", "x" * 5000, "a\0b", "../../nothing", "a/b/c", "~/none-x"]
)
def test_paths_that_lead_nowhere_are_refused(text: str) -> None:
    refusal_of(text)


@pytest.mark.parametrize("name", ["x.gguf", "model.safetensors"])
def test_a_file_is_refused_in_favour_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("GGUF")
    assert "is a file; give the folder" in refusal_of(name)


def test_names_of_models_are_the_last_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Base").mkdir()
    monkeypatch.chdir(tmp_path / "Base")
    snapshot = "/x/hub/models--Org--Base/snapshots/0123abc"
    for source in ("org/Base", "/a/b/base/", ".", "BASE", snapshot):
        assert model_name(source) == "base"
