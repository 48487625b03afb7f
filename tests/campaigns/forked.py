"""Commands of the command line as processes that start in a tenth of a second, and end or are killed as it is wanted.

::

    with ForkServer(hash_seed=1) as server:
        ended = server.run(Job(("extract", …), folder, kill_after=0.3))

A forked child differs from a process of its own in that its imports are done; its folders, environment, limits and end are
its own. Limits and audit events are Linux's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CODES = {0: "done", 2: "refused", 3: "a check failed"}
"""Exit codes with which a command may end."""


@dataclass(frozen=True)
class Job:
    """A command and what happens to it.

    Attributes:
        arguments: of the command line.
        folder: the working folder.
        environment: variables beside those of the driver.
        stdin: text to read.
        waits: seconds before it begins, beside other jobs.
        kill_after: seconds until SIGKILL.
        kill_at_change: SIGKILL just before so many changes of files and folders below the working folder.
        remove_after: seconds until the folder ``removes`` is removed, while the command runs.
        removes: a folder.
        has_no_folder: whether the working folder is removed before the command begins.
        file_bytes: that a file may hold at most, as on a disk that fills.
        more_memory: bytes of address space beside those that imports took.
        heeds_permissions: whether root may write what its mode allows alone.
        warms: whether the modules that the command has imported are imported for all later ones.
        deadline: seconds after which a command hangs.
    """

    arguments: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    waits: float = 0.0
    kill_after: float | None = None
    kill_at_change: int | None = None
    remove_after: float | None = None
    removes: Path | None = None
    has_no_folder: bool = False
    file_bytes: int | None = None
    more_memory: int | None = None
    heeds_permissions: bool = False
    warms: bool = False
    deadline: float = 120.0

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "folder": str(self.folder), "removes": str(self.removes)}


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; that of a signal is negative.
        out: its stdout.
        err: its stderr.
        seconds: that it took.
        is_late: whether it was killed because it hung.
        changes: how often it changed files and folders; None where it was killed.
    """

    code: int
    out: str
    err: str
    seconds: float
    is_late: bool = False
    changes: int | None = None

    @property
    def was_killed(self) -> bool:
        """Whether it ended by SIGKILL."""
        return self.code == -signal.SIGKILL

    @property
    def refusal(self) -> str | None:
        """The line of an error, where it ended with exit code 2 and one."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return lines[0] if self.code == 2 and len(lines) == 1 else None

    @property
    def fault(self) -> str | None:
        """What is wrong with this end, whatever was done to the command; None if nothing is."""
        if self.is_late:
            return "hung"
        if "Traceback (most recent call last)" in self.err + self.out:
            return f"traceback: {_last_line(self.err) or _last_line(self.out)}"
        if self.code not in CODES and not self.was_killed:
            return f"exit code {self.code}: {_last_line(self.err)}"
        if self.code == 2 and self.refusal is None:
            return f"exit code 2 without one line of error: {self.err.strip()[-200:]}"
        notes = [
            line for line in self.err.splitlines() if line and not line.startswith(("error: ", "note: "))
        ]
        return f"more than an error on stderr: {notes[0][:200]}" if self.code == 2 and notes else None


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1][-200:] if text.strip() else ""


class ForkServer:
    """A driver that runs commands in forked children."""

    def __init__(self, hash_seed: int = 0) -> None:
        """Describe a driver; entering it starts it.

        Args:
            hash_seed: of Python, by which the order of sets of text differs between drivers, as between processes.
        """
        single = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        self._environment = {
            **os.environ,
            **dict.fromkeys(single, "1"),
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path),
            "PYTHONHASHSEED": str(hash_seed),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def __enter__(self) -> ForkServer:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, job: Job) -> Ended:
        """Run a command to its end."""
        return self.run_all([job])[0]

    def run_all(self, jobs: Sequence[Job]) -> list[Ended]:
        """Run commands at the same time, each to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([job.record() for job in jobs]) + "\n")
        self._process.stdin.flush()
        return [Ended(**ended) for ended in json.loads(self._process.stdout.readline())]
