"""The meaning of a user's text for a checkpoint: a folder with a model, a folder with an adapter, or a Hugging Face id."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter_config import CONFIG
from personaprobe.models.weights.adapter_factors import WEIGHTS
from personaprobe.models.weights.packaged import DEMO, PACKAGED
from personaprobe.storage.paths import user_path

MODEL_WEIGHTS = "model.safetensors"
"""The weights of a whole model that is stored in one file, as transformers names them."""

_SIMILAR = 0.75


def local_folder(text: str) -> Path | None:
    """The folder that a text names; None where there is no such folder.

    Raises:
        CheckpointError: the text is empty, names a file, or cannot be a path.
    """
    if not text.strip() or text.startswith("@"):
        raise CheckpointError(f"a checkpoint is {text!r}; give a folder, a Hugging Face id, or {DEMO!r}")
    if not text.isprintable():
        raise CheckpointError(f"{text[:80]!r} has characters that no name of a folder has; give another")
    try:
        path = user_path(text, CheckpointError)
        if path.is_file():
            raise CheckpointError(f"{text} is a file; give the folder that holds the model or the adapter")
        return path if path.is_dir() else None
    except OSError as error:  # too long, or unreadable
        raise CheckpointError(f"{text[:80]!r} cannot be a folder ({error}); give another") from error


def holds_adapter(folder: Path) -> bool:
    """Whether a folder is an adapter. A whole model is none, although a configuration may have been left beside it.

    Raises:
        CheckpointError: it holds the weights of both.
    """
    if not (folder / CONFIG).exists():
        return False
    has_model = (folder / "config.json").exists() and any(
        file for kind in ("model*.safetensors", "pytorch_model*.bin") for file in folder.glob(kind)
    )
    has_adapter = any((folder / name).exists() for name in (WEIGHTS, "adapter_model.bin"))
    if has_model and has_adapter:
        raise CheckpointError(
            f"{folder} holds a whole model and an adapter ({WEIGHTS}), and either may be meant; move one of them into a "
            "folder of its own"
        )
    return not has_model


def holds_model(folder: Path) -> bool:
    """Whether a folder is a whole model; one that holds an adapter too, or nothing, is none."""
    return (folder / "config.json").exists() and not (folder / WEIGHTS).exists()


def weights_in(folder: Path) -> Path:
    """The file of a fine-tune's own weights in a folder: of a whole model, or else of an adapter; it need not exist."""
    return folder / (MODEL_WEIGHTS if holds_model(folder) else WEIGHTS)


@contextmanager
def without_adapter_config(folder: str | Path) -> Iterator[str | Path]:
    """A model's folder as Hugging Face should see it: an adapter's configuration that was left there would be obeyed."""
    if not (Path(folder) / CONFIG).exists():
        yield folder
        return
    with tempfile.TemporaryDirectory() as view:
        for file in Path(folder).resolve().iterdir():
            if not file.name.startswith("adapter_"):
                (Path(view) / file.name).symlink_to(file)
        yield view


def refuse_mistyped(name: str) -> None:
    """Raise where a name is no folder, and can be no Hugging Face id or resembles a folder here; nothing is downloaded.

    Raises:
        CheckpointError: names the folder that resembles it.
    """
    path = user_path(name, CheckpointError)
    near = _similar(path, name)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        advice = f"did you mean {near}? Give" if near else "give"
        raise CheckpointError(
            f"no model at {name}; {advice} an existing folder, a Hugging Face id, or {DEMO!r}"
        )
    if near is not None and not is_cached(name, "config.json"):
        raise CheckpointError(
            f"{name} is not found here; did you mean {near}? A Hugging Face id of that name is written {name}@main"
        )


def _similar(path: Path, name: str) -> str | None:
    """The folder beside a path whose name is nearest to it, or the packaged model."""
    try:
        beside = [folder.name for folder in path.parent.iterdir() if folder.is_dir()]
    except OSError:
        beside = []
    names = {one.casefold(): str(path.parent / one) for one in beside}
    if "/" not in name:
        names |= {one: one for one in PACKAGED}
    near = difflib.get_close_matches(path.name.casefold(), names, n=1, cutoff=_SIMILAR)
    return names[near[0]] if near else None


def is_cached(name: str, file: str, revision: str | None = None) -> bool:
    """Whether a file of a Hugging Face id was downloaded before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, file, revision=revision), str)
    except HFValidationError:
        return False


def model_name(source: str) -> str:
    """The last part of a folder or Hugging Face id, in lower case: models of one name count as the same."""
    path = user_path(source, CheckpointError)
    parts = (path.resolve() if path.is_dir() else path).parts
    of_cache = [part for part in parts if part.startswith("models--")]  # models--owner--name/snapshots/commit
    return (of_cache[-1].split("--")[-1] if of_cache else parts[-1] if parts else "").casefold()
