"""Files that no one should have to read: cut short, too deep, too large when unpacked, or no files at all."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import torch
from pyarrow import parquet
from safetensors.torch import save

Writer = Callable[[Path], object]


def content(data: bytes) -> Writer:
    return lambda path: path.write_bytes(data)


def packed_once(data: bytes) -> bytes:
    """A gzip file with one bit of its body flipped."""
    packed = bytearray(gzip.compress(data))
    packed[len(packed) // 2] ^= 16
    return bytes(packed)


def link_loop(path: Path) -> None:
    path.symlink_to(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def saved_tensors() -> bytes:
    return save({"weight": torch.arange(12.0).reshape(3, 4)}, {"note": "text"})


def saved_table() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table({"question": ["Is it?"] * 500, "answer": ["Yes.", "No."] * 250}), sink)
    return sink.getvalue()


def saved_torch(value: object) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


def packed_bomb() -> bytes:
    """A torch file whose one tensor unpacks a thousandfold."""
    source, sink = zipfile.ZipFile(io.BytesIO(saved_torch({"w": torch.zeros(4_000_000)}))), io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return sink.getvalue()


class Calls:
    """A pickle that calls a function when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("a-folder-made-by-a-pickle",)


HOSTILE: dict[str, Writer] = {
    "a file that is not there": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a link to itself": link_loop,
    "a link to nothing": link_to_nothing,
    "a pipe": os.mkfifo,
    "an empty file": content(b""),
    "a byte-order mark": content(b"\xef\xbb\xbf"),
    "null": content(b"null"),
    "lists in lists": content(b"[" * 100_000),
    "closed lists in lists": content(b"[" * 900 + b"]" * 900),
    "objects in objects": content(b'{"a":' * 50_000),
    "an array of tables in tables": content(b"a = " + b"[" * 50_000),
    "a key of many parts": content(b".".join([b"a"] * 40_000) + b" = 1"),
    "a long word": content(b"a" * 1_000_000),
    "many quotes": content(b'"' * 1_000_001),
    "a number of many digits": content(b'{"a": ' + b"9" * 5000 + b"}"),
    "a number of many digits in TOML": content(b"a = " + b"9" * 5000),
    "a number of many digits in YAML": content(b"a: " + b"9" * 5000),
    "a number in base sixty": content(b"a: 1" + b":1" * 400_000),
    "a number above every float": content(b'{"a": 1e999}'),
    "not a number": content(b'{"a": NaN}'),
    "half a character": content(b'{"a": "\\ud800"}'),
    "half a character in YAML": content(b'a: "\\ud800"'),
    "no character at all": content(b'a: "\\U00110000"'),
    "no date": content(b"id: 2024-99-99"),
    "no integer": content(b"a: !!int abc"),
    "a tag that calls": content(b"a: !!python/object/apply:os.mkdir [x]"),
    "aliases in aliases": content(
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n".encode() for a, b in pairwise("abcdefghi"))
    ),
    "a list that holds itself": content(b"a: &a [*a]"),
    "merges in merges": content(
        b"a: &a {x: 1, y: 2}\n"
        + b"".join(f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 99)}]}}\n".encode() for a, b in pairwise("abcde"))
    ),
    "a repeated key": content(b'{"a": 1, "a": 2}'),
    "Latin-1": content("naïve: é".encode("latin-1")),
    "UTF-16": content('{"a": 1}'.encode("utf-16")),
    "NUL bytes": content(b"\0" * 4096),
    "random bytes": content(bytes(range(256)) * 40),
    "a line of 40 MB": content(b'"' + b"a" * 40_000_000 + b'"'),
    "an unclosed quote": content(b'question,answer\n"Is it,Yes.\n'),
    "a column twice": content(b"question,answer,answer\na,b,c\n"),
    "a damaged gzip file": content(packed_once(b'{"a": 1}\n' * 4000)),
    "half a gzip file": content(gzip.compress(b'{"a": 1}\n' * 4000)[:50]),
    "a gzip file of one long line": content(gzip.compress(b" " * 200_000_000, 9)),
    "a gzip file of line ends": content(gzip.compress(b"\n" * 200_000_000, 9)),
    "a pointer of Git LFS": content(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
    "a pickle": content(pickle.dumps({"a": 1})),
    "a pickle that calls": content(pickle.dumps(Calls())),
    "a torch file that calls": content(saved_torch(Calls())),
    "a torch file that unpacks a thousandfold": content(packed_bomb()),
    "a torch file that repeats one number": content(saved_torch({"w": torch.zeros(1).expand(10**9)})),
    "half a torch file": content(saved_torch({"w": torch.zeros(100)})[:500]),
    "half a safetensors file": content(saved_tensors()[:-8]),
    "a safetensors header of 2^62 bytes": content((2**62).to_bytes(8, "little") + b"{}"),
    "a safetensors header that is cut": content((10).to_bytes(8, "little") + b'{"a":{"dty'),
    "half a Parquet file": content(saved_table()[:400]),
    "a Parquet file with a damaged page": content(
        saved_table()[:20] + bytes(byte ^ 255 for byte in saved_table()[20:60]) + saved_table()[60:]
    ),
}
"""Ways to write a hostile file, by what it is."""
