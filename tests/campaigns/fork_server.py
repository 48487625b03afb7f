"""A process that has imported everything, and runs each command of the command line in a forked child.

``python fork_server.py`` reads lists of jobs as JSON lines from stdin, runs the jobs of a list at once, and writes how
each ended. :mod:`campaigns.forked` starts it and describes jobs. Nothing is computed here: a child of a process that has
started OpenMP's threads would hang.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = (
    *(
        "torch",
        "numpy",
        "transformers",
        "tokenizers",
        "safetensors.torch",
        "pyarrow.parquet",
        "filelock",
        "psutil",
    ),
    *("personaprobe.cli.main", "personaprobe.models.loading", "personaprobe.studies.reports.page"),
)
"""Imported before the first job; what else a verb needs is imported once it has been run with ``warms``."""
PIPE = 1 << 20
"""Bytes a child may print without a reader; a pipe, unlike a file, is not limited by the size that files may have."""
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
"""Audit events that change a folder; opening a file for writing is another."""


@dataclass
class Child:
    """A forked child and what is known of it."""

    process: int
    job: dict[str, Any]
    pipes: dict[str, int]
    started: float = field(default_factory=time.monotonic)
    code: int | None = None
    seconds: float = 0.0
    is_late: bool = False

    def look(self) -> None:
        """Interrupt the child where it is time to, and take notice of its end."""
        process, status = os.waitpid(self.process, os.WNOHANG)
        self.seconds = time.monotonic() - self.started
        if process:
            self.code = os.waitstatus_to_exitcode(status)
            return
        if self.job["kill_after"] is not None and self.seconds >= self.job["kill_after"]:
            os.kill(self.process, signal.SIGKILL)
        if self.job["remove_after"] is not None and self.seconds >= self.job["remove_after"]:
            self.job["remove_after"] = None
            shutil.rmtree(self.job["removes"], ignore_errors=True)
        if self.seconds >= self.job["deadline"]:
            self.is_late = True
            os.kill(self.process, signal.SIGKILL)

    def ended(self) -> dict[str, Any]:
        """How it ended, as JSON."""
        printed = {}
        for name, pipe in self.pipes.items():
            with os.fdopen(pipe, "rb") as file:
                printed[name] = file.read().decode(errors="replace")
        report = json.loads(printed.pop("report") or "{}")
        if self.job["warms"]:
            _import(report.pop("modules", ()))
        return {
            "code": self.code,
            "seconds": self.seconds,
            "is_late": self.is_late,
            "changes": report.get("changes"),
            **printed,
        }


def main() -> None:
    """Run lists of jobs until stdin ends."""
    jobs, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    _import(IMPORTED)
    torch: Any = sys.modules["torch"]
    torch.set_num_threads(1)
    for line in jobs:
        children = [_fork(job, (jobs.fileno(), replies.fileno())) for job in json.loads(line)]
        while any(child.code is None for child in children):
            for child in children:
                if child.code is None:
                    child.look()
            time.sleep(0.001)
        replies.write(json.dumps([child.ended() for child in children]) + "\n")
        replies.flush()


def _import(names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _fork(job: dict[str, Any], private: tuple[int, ...]) -> Child:
    """Start a job; the child never returns from here."""
    pipes = {name: os.pipe() for name in ("out", "err", "report")}
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        for end in (*private, writing, *(read for read, _ in pipes.values())):
            os.close(end)
        _run(job, reading, {name: write for name, (_, write) in pipes.items()})
    os.close(reading)
    os.write(writing, job["stdin"].encode())
    os.close(writing)
    for _, write in pipes.values():
        os.close(write)
    return Child(process, job, {name: read for name, (read, _) in pipes.items()})


def _run(job: dict[str, Any], stdin: int, pipes: dict[str, int]) -> NoReturn:
    """Be the command."""
    code = 1
    try:
        for pipe in pipes.values():
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
        for number, pipe in enumerate((stdin, pipes["out"], pipes["err"])):
            os.dup2(pipe, number)
        os.environ.update(job["environment"])
        os.chdir(job["folder"])
        time.sleep(job["waits"])
        changes = _count_changes(job)
        _confine(job)
        code = _command(job["arguments"])
        report = {"changes": changes[0], "modules": sorted(sys.modules) if job["warms"] else []}
        os.write(pipes["report"], json.dumps(report).encode())
    except BaseException:  # of this module, not of the command
        os.write(2, f"cannot run the job: {traceback.format_exc()}".encode())
    finally:
        os._exit(code)


def _confine(job: dict[str, Any]) -> None:
    """Limit what the process may do from now on."""
    if job["has_no_folder"]:
        shutil.rmtree(job["folder"])
    if job["heeds_permissions"] and os.geteuid() == 0:
        _heed_permissions()
    if job["file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], job["file_bytes"]))
    if job["more_memory"] is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + job["more_memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _heed_permissions() -> None:
    """Give up root's right to read and write whatever it likes; files of root keep belonging to this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert libc.capget(header, held) == 0
    for kind in (0, 1):
        held[kind] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, held) == 0


def _command(arguments: list[str]) -> int:
    """Run the command line; its exit code, as the interpreter would end with."""
    from personaprobe.cli.main import main as command_line

    sys.argv = ["personaprobe", *arguments]
    code = 0
    try:
        command_line()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _count_changes(job: dict[str, Any]) -> list[int]:
    """Count changes below the working folder from now on; the process kills itself just before the chosen one."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in CHANGES:
            return
        if not isinstance(arguments[0], str | os.PathLike):
            return
        if not os.path.join(job["folder"], os.fspath(arguments[0])).startswith(job["folder"]):
            return
        count[0] += 1
        if count[0] == job["kill_at_change"]:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


if __name__ == "__main__":
    main()
