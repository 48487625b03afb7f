"""Tensors of strangers: safetensors, and torch files of which nothing but tensors and plain data is unpickled."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from personaprobe.errors import CheckpointError, one_line
from personaprobe.storage.readers.opening import MIB, POINTER, ErrorClass, refusing, regular_file

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_RATIO = 8
"""A torch file may hold so many times its own bytes; torch itself does not pack them."""


class TensorFile(NamedTuple):
    """The content of a safetensors file: its tensors by name, and its metadata, which is text."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_safetensors(path: Path, error: ErrorClass = CheckpointError, *, advice: str = "") -> TensorFile:
    """Read all tensors of a safetensors file onto the CPU, and its metadata.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is damaged, or is another kind of file, which is named.
    """
    return TensorFile(
        dict(_tensors(path, error, advice)), read_safetensors_metadata(path, error, advice=advice)
    )


def read_safetensors_metadata(
    path: Path, error: ErrorClass = CheckpointError, *, advice: str = ""
) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors; empty where it has none.

    Raises:
        PersonaProbeError: of the class ``error``; see :func:`read_safetensors`.
    """
    from safetensors import safe_open

    _refuse_other_kinds(path, error, advice)
    with refusing(path, "a safetensors file", error, advice), safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _tensors(path: Path, error: ErrorClass, advice: str) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    _refuse_other_kinds(path, error, advice)
    with refusing(path, "a safetensors file", error, advice), safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  # no mapping: it has no other way to list its names
            yield name, file.get_tensor(name)


def _refuse_other_kinds(path: Path, error: ErrorClass, advice: str) -> None:
    """Raise for files that are often taken for safetensors."""
    n_bytes = regular_file(path, error)
    then = f"; {advice}" if advice else ""
    with refusing(path, "a safetensors file", error, advice), path.open("rb") as stream:
        start = stream.read(len(POINTER))
    if n_bytes == 0:
        raise error(f"{one_line(path)} is empty; copy or download it again{then}")
    if start == POINTER:
        raise error(f"{one_line(path)} is a pointer of Git LFS, not the file: run git lfs pull{then}")
    if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
        raise error(
            f"{one_line(path)} is a pickle, which can run code, and no safetensors file: convert it{then}"
        )


def read_torch(path: Path, error: ErrorClass = CheckpointError, *, advice: str = "") -> Any:
    """Read a torch file onto the CPU; a pickle of anything but tensors and plain data is refused, and none of it runs.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is damaged, holds other objects, or unpacks to far
            more bytes than it has.
    """
    n_bytes = regular_file(path, error)
    most = LARGEST_RATIO * n_bytes + MIB
    with refusing(path, "a torch file of tensors", error, advice):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                if sum(entry.file_size for entry in packed.infolist()) > most:
                    raise ValueError(f"it unpacks to more than {LARGEST_RATIO} times its size")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of a pickle that is refused, or read rightly
            content = _loaded(path)
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(content)) > most:
            raise ValueError(f"its tensors are more than {LARGEST_RATIO} times as large as the file")
    return content


def _loaded(path: Path) -> Any:
    """The content of a torch file; its own words about pickles are long, and advise to trust them."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("it is damaged or holds more than tensors, which could run code: refused") from error


def tensors_in(content: Any) -> Iterator[Tensor]:
    """All tensors in nested dictionaries, lists and tuples."""
    import torch

    pending, visited = [content], set[int]()
    while pending:
        item = pending.pop()
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, Mapping | list | tuple) and id(item) not in visited:
            visited.add(id(item))
            pending += item.values() if isinstance(item, Mapping) else item
