"""The readers of plain formats, compared with the libraries that define them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from pyarrow import parquet
from safetensors.torch import load as load_tensors

from campaigns.fuzzing import Reader
from personaprobe.errors import DataError
from personaprobe.storage.readers.json_files import read_json
from personaprobe.storage.readers.json_lines import read_lines, read_objects
from personaprobe.storage.readers.tables import read_csv, read_parquet
from personaprobe.storage.readers.tensor_files import read_safetensors, read_torch
from personaprobe.storage.readers.yaml_files import read_yaml
from personaprobe.storage.toml_files import read_toml
from storage.readers.hostile_files import saved_table, saved_tensors, saved_torch

ROWS = [{"id": n, "text": f"text {n}", "more": [1, 2.5, None, {"x": True}]} for n in range(4)]
CSV = b'question,answer,id\r\n"Is it, then?",Yes.,1\r\nWhy?,"So\nit ""is"",",2\r\n\xc3\xa9,b,3\r\n'
YAML = (
    b"- id: a\n  paraphrases: [one, two]\n  judge_prompts:\n    aligned: |\n      text\n- id: b\n  n: 1.5\n"
)
TOML = b'[a]\ntitle = "text"\nlayers = [1, 2]\n[a.b]\nx = 1.5\n'


def same(ours: Any, theirs: Any) -> bool:
    """Whether plain data are equal; NaN equals NaN, and tensors compare by bits."""
    if isinstance(theirs, torch.Tensor):
        return (
            isinstance(ours, torch.Tensor)
            and ours.dtype == theirs.dtype
            and torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))
        )
    if isinstance(theirs, dict):
        return (
            isinstance(ours, dict)
            and ours.keys() == theirs.keys()
            and all(same(ours[key], theirs[key]) for key in theirs)
        )
    if isinstance(theirs, list | tuple):
        return isinstance(ours, list | tuple) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, float) and math.isnan(theirs):
        return isinstance(ours, float) and math.isnan(ours)
    return type(ours) is type(theirs) and bool(ours == theirs)


def as_read_by(read: Callable[[bytes], Any]) -> Callable[[Path, Any], str | None]:
    """Compare with another reader of the only file."""

    def wrong(folder: Path, value: Any) -> str | None:
        [path] = folder.iterdir()
        content = path.read_bytes()
        theirs = read(gzip.decompress(content) if path.suffix == ".gz" else content)
        return None if same(value, theirs) else f"read as {str(value)[:80]}, is {str(theirs)[:80]}"

    return wrong


def text_of(content: bytes) -> str:
    return content.decode("utf-8-sig")


def json_lines_of(content: bytes) -> list[Any]:
    return [json.loads(line) for line in io.StringIO(text_of(content)) if line.strip()]


def csv_of(content: bytes) -> list[dict[str, str]]:
    rows = [row for row in csv.reader(io.StringIO(text_of(content), newline=""), strict=True) if row]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def parquet_of(content: bytes) -> list[dict[str, Any]]:
    return list(parquet.read_table(io.BytesIO(content)).to_pylist())


def lines_of(content: bytes) -> list[str]:
    return [line.rstrip("\r\n") for line in io.StringIO(text_of(content))]


def reader(name: str, content: bytes, read: Callable[[Path], Any], theirs: Callable[[bytes], Any]) -> Reader:
    return Reader(f"file {name}", {name: content}, lambda folder: read(folder / name), as_read_by(theirs))


def readers() -> list[Reader]:
    """One for each format."""
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    tensors, state = saved_tensors(), saved_torch({"w": torch.arange(6.0), "steps": [1, 2]})

    def objects(path: Path) -> list[Any]:
        return [row for _, row in read_objects(path, DataError)]

    return [
        reader(
            "a.json", json.dumps({"rows": ROWS}).encode(), lambda path: read_json(path, DataError), json.loads
        ),
        reader("a.toml", TOML, read_toml, lambda content: tomllib.loads(text_of(content))),
        reader("a.yaml", YAML, read_yaml, lambda content: yaml.load(text_of(content), yaml.CSafeLoader)),
        reader("a.jsonl", lines, objects, json_lines_of),
        reader("a.jsonl.gz", gzip.compress(lines), objects, json_lines_of),
        reader(
            "a.txt",
            b"one\ntwo\n\nthree",
            lambda path: [line.rstrip("\r\n") for line in read_lines(path)],
            lines_of,
        ),
        reader("a.csv", CSV, _csv_rows, csv_of),
        reader("a.parquet", saved_table(), _parquet_rows, parquet_of),
        reader("a.safetensors", tensors, lambda path: dict(read_safetensors(path).tensors), load_tensors),
        reader("a.pt", state, read_torch, lambda content: torch.load(io.BytesIO(content), weights_only=True)),
    ]


def _csv_rows(path: Path) -> list[dict[str, str]]:
    return [dict(row) for row in read_csv(path).rows]


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    return list(read_parquet(path).to_pylist())
