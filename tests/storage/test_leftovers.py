"""Temporary files of killed runs are recognised and removed; those of running processes, and all other files, stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from personaprobe.errors import OutputError
from personaprobe.storage import leftovers as module
from personaprobe.storage.files import write_atomically
from personaprobe.storage.leftovers import OLD, leftovers, remove_abandoned, temporary_file, temporary_folder
from structure import modules, name_of

WRITER = """
import sys, time
from pathlib import Path
from personaprobe.features.activations.store_files import atomic_folder
from personaprobe.storage.files import write_atomically

def hang(path):
    path.write_bytes(bytes(1000))
    print("writing", flush=True)
    time.sleep(600)

folder = Path(sys.argv[1])
if sys.argv[2] == "store":
    with atomic_folder(folder / "0123456789abcdef") as temporary:
        hang(temporary / "shard-00000.safetensors")
else:
    write_atomically(folder / "part.json", hang)
"""


@pytest.fixture(params=["store", "file"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of writing."""
    command = [sys.executable, "-c", WRITER, str(tmp_path), request.param]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()


def test_what_a_process_writes_stays_while_it_runs_and_goes_when_it_is_killed(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    [left] = leftovers(tmp_path)
    assert (left.is_abandoned, left.owner) == (False, f"process {writer.pid}, which runs")
    assert remove_abandoned(tmp_path) == []
    assert left.path.exists()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert [gone.owner for gone in remove_abandoned(tmp_path)] == [f"process {writer.pid}, which is gone"]
    assert list(tmp_path.iterdir()) == []


def test_the_next_file_written_into_a_folder_takes_what_a_killed_process_left_there_with_it(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    writer.kill()
    writer.wait()
    earlier = (
        tmp_path / ".0123456789abcdef.k3j_x8aa"
    )  # as versions up to 0.5 named a store: it may be anybody's
    earlier.mkdir()
    os.utime(earlier, (0, 0))
    write_atomically(tmp_path / "another.csv", lambda path: path.write_text("x"))
    assert set(tmp_path.iterdir()) == {tmp_path / "another.csv", earlier}


def test_a_process_that_has_the_number_of_a_dead_one_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = temporary_file(tmp_path / "part.json")
    assert not leftovers(tmp_path)[0].is_abandoned
    long_ago = time.time() - 10 * 365 * 24 * 3600
    os.utime(path, (long_ago, long_ago))
    assert leftovers(tmp_path)[0].is_abandoned


def test_of_another_machine_only_what_has_long_not_changed_is_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = temporary_folder(tmp_path / "store")
    (folder / "shard").write_bytes(b"x")
    monkeypatch.setattr(module, "_machine", lambda: "00000000")
    assert [left.is_abandoned for left in leftovers(tmp_path)] == [False]
    long_ago = time.time() - OLD - 60
    os.utime(folder, (long_ago, long_ago))
    assert [left.is_abandoned for left in leftovers(tmp_path)] == [False]
    os.utime(folder / "shard", (long_ago, long_ago))
    assert [left.is_abandoned for left in leftovers(tmp_path)] == [True]


@pytest.mark.parametrize(
    "name",
    [
        "stores/.fdad0123456789ab.k3j_x8aa",
        "parts/.0123456789abcdef0123.json.k3j_x8aa.json",
        "models/tmpk3j_x8aa",
    ],
)
def test_names_of_earlier_versions_are_known(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.mkdir(parents=True)
    assert [left.is_abandoned for left in leftovers(tmp_path, below=True)] == [False]
    long_ago = time.time() - OLD - 60
    os.utime(path, (long_ago, long_ago))
    assert [left.path for left in remove_abandoned(tmp_path, below=True)] == [path]


@pytest.mark.parametrize(
    "name",
    [
        ".notes.txt.original",
        ".git",
        ".part.json.lock",
        ".x.partial-zz",
        "tmpk3j_x8aa",
        ".env",
        "verdict.json",
    ],
)
def test_other_files_are_left_alone_however_old(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    os.utime(tmp_path / name, (0, 0))
    assert remove_abandoned(tmp_path, below=True) == []
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["a" * 240 + ".json", "b." + "c" * 200, "plain", ".hidden.json", "名" * 70])
def test_any_name_of_a_file_has_a_temporary_one(name: str, tmp_path: Path) -> None:
    write_atomically(tmp_path / name, lambda path: path.write_text("x"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    made = temporary_file(tmp_path / name)
    assert [left.path for left in leftovers(tmp_path)] == [made]


def test_temporary_neighbours_are_named_in_one_place() -> None:
    names = [name_of(path) for path in modules() if "tempfile.mk" in path.read_text(encoding="utf-8")]
    assert names == ["storage/leftovers.py"]


def test_a_working_folder_that_was_deleted_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="the working folder was deleted"):
        remove_abandoned(Path("runs"))
