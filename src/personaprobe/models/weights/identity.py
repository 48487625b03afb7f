"""The content of a checkpoint as hashes: of its weights, and of everything else that changes what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from personaprobe.storage.digests import sha256_of

WEIGHTS = ("*.safetensors",)

BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.jinja",
    "additional_chat_templates/*.jinja",
)
"""Files of a checkpoint that change its tokens, its prompts, or how its weights are used."""


def weights_of(source: str) -> str:
    """Hashes of the weights in a folder; another source, such as a Hugging Face id, stands for itself."""
    folder = Path(source)
    return _hashes(folder, WEIGHTS) or source if folder.is_dir() else source


def content_of(source: str) -> str:
    """Hashes of the weights, the configuration, the tokenizer and the chat template in a folder."""
    folder = Path(source)
    return _hashes(folder, (*WEIGHTS, *BESIDE_WEIGHTS)) or source if folder.is_dir() else source


def commit_of(source: str, revision: str | None) -> str | None:
    """The commit that a revision of a Hugging Face id stands for in the local cache; the revision where none is there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else revision


def _hashes(folder: Path, patterns: tuple[str, ...]) -> str:
    return " ".join(f"{name}:{sha256_of(file)}" for name, file in _files(folder, patterns))


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Every file that matches a pattern, with its path in the folder, in a fixed order."""
    for pattern in patterns:
        for file in sorted(folder.glob(pattern)):
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file
