"""Registries that several processes change at once: no change is lost, and no killed process is in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from personaprobe.errors import OutputError
from personaprobe.storage import locks
from personaprobe.storage.locks import locked
from personaprobe.storage.toml_files import read_toml, remove_entry, write_entry

WRITER = """
import sys
from pathlib import Path
from personaprobe.storage.toml_files import write_entry
path, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(6):
    write_entry(path, ["latents", name, str(number)], {"text": f"{name} {number}"}, "A registry.")
"""

HOLDER = """
import sys, time
from pathlib import Path
from personaprobe.storage.locks import locked
with locked(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


def _started(script: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_eight_processes_that_write_at_once_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"
    writers = [_started(WRITER, str(path), f"writer-{n}") for n in range(8)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0] * 8
    written = read_toml(path)["latents"]
    assert {name: len(entries) for name, entries in written.items()} == {f"writer-{n}": 6 for n in range(8)}
    assert path.read_text().startswith("# A registry.\n")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".features.toml.lock", "features.toml"]


def test_threads_of_one_process_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "organisms.toml"
    write_entry(path, ["gone"], {})

    def write(name: str) -> None:
        for number in range(4):
            write_entry(path, [f"{name}-{number}"], {"n": number})

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    threads.append(threading.Thread(target=remove_entry, args=(path, ["gone"])))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_toml(path)) == 16


def test_a_killed_process_leaves_the_registry_free(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"
    holder = _started(HOLDER, str(path))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    started = time.monotonic()
    write_entry(path, ["mine"], {"n": 1})
    assert time.monotonic() - started < 5
    assert read_toml(path) == {"mine": {"n": 1}}


def test_a_registry_that_stays_locked_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    path = tmp_path / "features.toml"
    holder = _started(HOLDER, str(path))
    try:
        with pytest.raises(OutputError, match=r"another process has been changing .*features\.toml"):
            write_entry(path, ["mine"], {"n": 1})
    finally:
        holder.kill()
        holder.wait()
    assert not path.exists()


def test_locks_may_be_nested_and_are_free_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"

    def fail() -> None:
        with locked(path), locked(path):
            write_entry(path, ["mine"], {"n": 1})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    thread = threading.Thread(target=write_entry, args=(path, ["other"], {}))
    thread.start()
    thread.join(10)
    assert set(read_toml(path)) == {"mine", "other"}


def test_a_registry_in_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_entry(tmp_path / "file" / "features.toml", ["mine"], {})
