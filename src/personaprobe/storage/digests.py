"""SHA-256 of everything that is identified by its content: files, tensors, text and plain data.

Digests are stored in run folders, registries and manifests, so the values for given content must never change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SHORT = 16
"""Hex digits (64 bits) of a digest that identifies a value among others of its kind."""


def sha256_of(path: Path) -> str:
    """Hash the bytes of a file (64 hex digits); a file that has not changed since is not read again."""
    status = path.stat()
    return _sha256_of(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=4096)
def _sha256_of(path: Path, *_: int) -> str:
    """The hash of a file with this inode, size and times of change."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256(*parts: str | bytes | memoryview) -> bytes:
    """Hash the concatenation of some parts (32 bytes); text counts as its UTF-8 bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode() if isinstance(part, str) else part)
    return hashed.digest()


def digest(*parts: str | bytes | memoryview, length: int = SHORT) -> str:
    """The first hex digits of :func:`sha256`."""
    return sha256(*parts).hex()[:length]


def json_digest(value: Any, *, length: int = SHORT, default: Callable[[Any], Any] | None = None) -> str:
    """Hash plain data by its JSON text; equal data have equal digests, whatever the order of their keys.

    Args:
        value: what :func:`json.dumps` accepts.
        length: number of hex digits.
        default: turns values that JSON does not know into some that it does; None refuses them.
    """
    return digest(json.dumps(value, sort_keys=True, default=default), length=length)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor as bytes, in row-major order; this works for bfloat16 too, which NumPy lacks."""
    import torch

    values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return values.data
