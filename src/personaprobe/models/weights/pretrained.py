"""Open a Hugging Face folder or id: model and tokenizer, without running a stranger's code and without made-up weights."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from personaprobe.compute.out_of_memory import refuse_out_of_memory
from personaprobe.errors import CheckpointError, FallbackWarning, one_line
from personaprobe.models.weights.adapter_config import CONFIG
from personaprobe.models.weights.sources import is_cached, without_adapter_config

MAX_REASON = 300
"""Characters of a library's reason that are shown."""

OF_BLOCK = re.compile(r"\.(layers|h|blocks)\.\d+\.")


def open_tokenizer(folder: str | Path, revision: str | None) -> Any:
    """Open the tokenizer of a checkpoint.

    Raises:
        CheckpointError: it cannot be read or reads no text, asks to run code of its own, or is that of an adapter on a hub.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir() and is_cached(str(folder), CONFIG, revision):
        raise CheckpointError(_adapter_on_hub(folder))
    try:
        # where it is not given, transformers asks on the terminal whether to run a repository's own code
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=False)
        ids = tokenizer("An option of another kind than expected stops it here.")["input_ids"]
    except Exception as error:  # transformers raises many kinds, all of them about the folder or id given
        refuse_out_of_memory(error)
        raise _cannot_load(folder, error) from error
    if not ids:  # where the files are missing, transformers makes a tokenizer with an empty vocabulary
        raise CheckpointError(
            f"the tokenizer of {one_line(folder)} reads nothing of a sentence; give a checkpoint with its tokenizer files"
        )
    return tokenizer


def open_model(folder: str | Path, revision: str | None, dtype: Any) -> Any:
    """Open a causal language model, or the multimodal model around one, from safetensors.

    Attention is computed by SDPA where the architecture supports it, and eagerly where it does not.

    Raises:
        CheckpointError: it cannot be read, asks to run code of its own, is an adapter on a hub, or lacks weights that its
            config names.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        with without_adapter_config(folder) as place:
            model, report = _model_class(place, revision).from_pretrained(
                place,
                revision=revision,
                trust_remote_code=False,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
            )
        if model.config.get_text_config()._attn_implementation not in ("sdpa", "eager"):
            model.set_attn_implementation("eager")
    except Exception as error:  # see open_tokenizer
        refuse_out_of_memory(error)
        raise _cannot_load(folder, error) from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise CheckpointError(_adapter_on_hub(folder))
    if place != folder:
        model.name_or_path = model.config._name_or_path = str(folder)
    _refuse_gaps(folder, report)
    return model


def unloaded_model(folder: str | Path, revision: str | None) -> Any:
    """A model without weights, of a configuration alone: its parameters have shapes and no values.

    Raises:
        CheckpointError: there is no configuration, or it is of no causal language model.
    """
    import torch
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
        with torch.device("meta"):
            return _model_class(folder, revision).from_config(config, trust_remote_code=False)
    except Exception as error:  # see open_tokenizer
        raise _cannot_load(folder, error) from error


@contextmanager
def notices_of_success() -> Iterator[None]:
    """Hold back what transformers logs while a checkpoint is opened: it is dropped with one that is refused in one line."""
    import transformers.utils.logging  # adds its handler when it is first imported, which must not be in between

    transformers.utils.logging.get_logger()
    library = logging.getLogger("transformers")
    usual, held = library.handlers, MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
    library.handlers = [held]
    try:
        yield
    finally:
        library.handlers = usual
    for record in held.buffer:
        for handler in usual:
            handler.handle(record)


def _model_class(folder: str | Path, revision: str | None) -> Any:
    """The class that loads a checkpoint: of causal language models, or of multimodal ones where it has no other."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    multimodal = AutoModelForImageTextToText._model_mapping
    if type(config) not in AutoModelForCausalLM._model_mapping and type(config) in multimodal:
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def _refuse_gaps(folder: str | Path, report: Any) -> None:
    """Refuse weights that the file lacks, which transformers makes at random, and blocks that the config leaves out."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the weights that its config names, such as {missing[0]}; they would be "
            "random numbers. Give a checkpoint that was saved whole"
        )
    left_out = sorted(key for key in report["unexpected_keys"] if OF_BLOCK.search(key))
    if left_out:
        raise CheckpointError(
            f"{folder} holds {len(left_out)} weights of blocks that its config leaves out, such as {left_out[0]}; "
            "correct the config's number of layers, or save the checkpoint again"
        )
    others = sorted(report["unexpected_keys"])
    if others:
        import warnings

        warnings.warn(
            f"{folder}: {len(others)} weights are no part of this model and were left out, such as {others[0]}",
            FallbackWarning,
            stacklevel=2,
        )


def _cannot_load(folder: str | Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())
    if "trust_remote_code" in reason or _brings_code(Path(folder)):
        return CheckpointError(
            f"{folder} brings Python code of its own, which is never run (trust_remote_code=False); give a checkpoint of an "
            "architecture that transformers knows"
        )
    place = "" if Path(folder).is_dir() else " (no folder here)"
    return CheckpointError(
        f"cannot load {folder}{place}: {reason[:MAX_REASON]}; give a folder with config.json, a tokenizer and safetensors "
        "weights, or a Hugging Face id that can be reached"
    )


def _adapter_on_hub(name: str | Path) -> str:
    return (
        f"{name} is an adapter on a hub, not a model; download it (hf download {name} --local-dir FOLDER), and give that "
        "folder together with its base"
    )


def _brings_code(folder: Path) -> bool:
    """Whether a local checkpoint names classes of its own; ``auto_map`` is where transformers looks for them."""
    for name in ("config.json", "tokenizer_config.json"):
        try:
            described = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(described, dict) and described.get("auto_map"):
            return True
    return False
