"""A disk that is full, whichever library writes: one sentence, and no half of a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from limited_disk import run_limited
from personaprobe.errors import DataError, OutputError
from personaprobe.storage.files import write_atomically, writing

WRITERS = {
    "plain text": "path.write_text('x' * 1_000_000)",
    "safetensors": "import safetensors.torch as s; s.save_file({'a': torch.zeros(1_000_000)}, path)",
    "torch at a path": "torch.save({'a': torch.zeros(1_000_000)}, path)",
    "torch in an open file": "torch.save({'a': torch.zeros(1_000_000)}, path.open('wb'))",
    "tokenizers": "tokenizer.save(str(path))",
    "parquet": "pq.write_table(pa.table({'x': [os.urandom(100) for _ in range(9000)]}), path)",
}
"""Statements that write about a megabyte, by library."""

CODE = """
import os, sys, torch
import pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from tokenizers import Tokenizer, models
from personaprobe.errors import OutputError
from personaprobe.storage.files import write_atomically
tokenizer = Tokenizer(models.BPE({f"token {n}": n for n in range(50_000)}, []))
limit(100_000)
folder = Path(sys.argv[1])
for name, statement in zip(sys.argv[2::2], sys.argv[3::2]):
    try:
        write_atomically(folder / name, lambda path: exec(statement, globals(), {"path": path}))
    except OutputError as error:
        print(f"{name}: {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_every_library_s_failure_to_write_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    result = run_limited(CODE, tmp_path, *(part for pair in WRITERS.items() for part in pair))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(WRITERS), lines
    for name, line in zip(WRITERS, lines, strict=True):
        assert line.startswith(f"{name}: cannot write {tmp_path / name}: ")
        assert "File too large" in line or "no file of this size" in line
        assert line.endswith("; choose another folder or free some space")
    assert list(tmp_path.iterdir()) == []


def _raise(error: Exception) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    return write


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        Exception("No space left on device (os error 28)"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_the_reason_is_that_of_the_operating_system(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*weights: No space left on device; choose"):
        write_atomically(tmp_path / "weights", _raise(error))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("x"), DataError("cannot read it")],
)
def test_other_errors_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught:
        write_atomically(tmp_path / "weights", _raise(error))
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_to_read_within_a_block_that_writes_is_not_called_a_full_disk(tmp_path: Path) -> None:
    def read() -> None:
        try:
            (tmp_path / "absent").read_bytes()
        except OSError as error:
            raise DataError("cannot read absent") from error

    with pytest.raises(DataError, match="cannot read absent"), writing(tmp_path):
        read()
