"""Digests: what is stored in run folders and registries must be found again by every later version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from personaprobe.storage.digests import digest, json_digest, sha256, sha256_of, tensor_bytes
from personaprobe.storage.run_cache import spec_digest


def test_digests_are_the_first_hex_digits_of_sha256() -> None:
    expected = hashlib.sha256("κ text".encode()).hexdigest()
    assert digest("κ text") == expected[:16]
    assert digest("κ text", length=64) == sha256("κ text").hex() == expected


def test_parts_are_hashed_as_if_joined() -> None:
    assert digest("a", b"b", memoryview(b"c")) == digest("abc")


def test_the_order_of_keys_does_not_change_a_digest_and_the_values_do() -> None:
    assert (
        json_digest({"a": 1, "b": (2,)}) == json_digest({"b": [2], "a": 1}) != json_digest({"a": 1, "b": [3]})
    )


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError):
        json_digest({"path": Path("x")})


def test_run_caches_of_earlier_versions_are_found() -> None:
    spec = {"part": "gaps", "arm": ["insecure", {"roles": 7}], "path": Path("x")}
    earlier = hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:20]
    assert spec_digest(spec) == earlier == "af58dfdd77b5bfb9921d"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_hashed_by_their_values_in_row_major_order(dtype: torch.dtype) -> None:
    values = torch.arange(6, dtype=dtype).reshape(2, 3)
    assert bytes(tensor_bytes(values)) == bytes(values.flatten().view(torch.uint8).tolist())
    assert digest(tensor_bytes(values.T.contiguous().T)) == digest(tensor_bytes(values))


def test_a_file_is_hashed_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert sha256_of(tmp_path / "file") == digest(b"content", length=64)
