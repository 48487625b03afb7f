"""Disks that fill, folders that cannot be written or are gone, and memory that ends: one line, and then a good end."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from campaigns.comparison import files
from campaigns.forked import Ended, ForkServer, Job
from campaigns.kills import Unbroken
from campaigns.small_runs import WRITING, Arguments, Workplace, workplace
from campaigns.tally import Tally

MEGABYTE = 1 << 20
MEMORY = (0.25 * MEGABYTE, 400.0 * MEGABYTE)
"""Bytes beside those of imports; the tiny runs need some 100 MB."""

CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
"""Exit codes of a process in which a library, such as oneDNN or safetensors, was refused memory. None can be caught."""

Trouble = Callable[[random.Random, Workplace, ForkServer, Job, Unbroken], Ended]
"""Runs a job in trouble of a size that it chooses, and ends the trouble."""


def disks(
    seed: int,
    size: int,
    folder: Path,
    verbs: Mapping[str, Arguments] = WRITING,
    only: tuple[str, ...] = (),
    server: ForkServer | None = None,
) -> list[Tally]:
    """Put every verb into every trouble of :data:`TROUBLES`, and run it again without.

    A run in trouble ends well, or in one line of error; the next one ends with the bytes of a run that never was in trouble.
    Where memory ends, a library in C++ may also end the process (:data:`CRASHES`): such a run counts as tried only.

    Args:
        seed: of the sizes of troubles.
        size: runs of a verb in each trouble.
        folder: an empty one, for everything.
        verbs: what is run.
        only: names of troubles; all that this machine can make by default.
        server: runs the commands; by default one of its own.
    """
    with ExitStack() as stack:
        place = stack.enter_context(workplace(folder))
        driver = server or stack.enter_context(ForkServer())
        chosen = only or tuple(name for name in TROUBLES if name not in missing_troubles())
        tallies = {(trouble, verb): Tally(trouble, verb) for trouble in chosen for verb in verbs}
        for verb, arguments in verbs.items():
            unbroken = Unbroken.of(verb, place, driver, arguments)
            for trouble in chosen:
                for number in range(size):
                    choice = random.Random(f"{seed} {trouble} {verb} {number}")
                    before = tallies[trouble, verb]
                    tallies[trouble, verb] = _tried(before, choice, place, driver, unbroken, arguments)
        return list(tallies.values())


def missing_troubles() -> tuple[str, ...]:
    """Names of troubles that cannot be made here: a small disk of its own needs root."""
    return () if os.geteuid() == 0 and _mounts() else ("small disk",)


def _tried(
    tally: Tally,
    choice: random.Random,
    place: Workplace,
    server: ForkServer,
    unbroken: Unbroken,
    arguments: Arguments,
) -> Tally:
    """One run in trouble and the next one, counted."""
    place.clean()
    job = place.job(arguments(place))
    with _whole_again(place, tally.campaign):
        ended = TROUBLES[tally.campaign](choice, place, server, job, unbroken)
        place.prepare()
        after = server.run(place.job(arguments(place)))
        crashed = tally.campaign == "little memory" and ended.code in CRASHES and "Traceback" not in ended.err
        faults = [f"in trouble: {ended.fault}"] if ended.fault and not crashed else []
        if after.code != 0 or after.fault:
            faults.append(f"afterwards: {after.fault or after.err.strip()}")
        else:
            faults += unbroken.faults(place)
    tally = tally.plus(tried=1, checked=1, accepted=int(ended.code == 0), refused=int(ended.code == 2))
    for fault in faults[:3]:
        tally = tally.plus(failure=f"{tally.campaign}, {tally.subject}, case {tally.tried - 1}: {fault}")
    return tally


def _full_disk(
    choice: random.Random, _: Workplace, server: ForkServer, job: Job, unbroken: Unbroken
) -> Ended:
    """No file may grow beyond some bytes."""
    largest = max(path.stat().st_size for path in files(unbroken.files).values())
    return server.run(replace(job, file_bytes=int(math.exp(choice.uniform(0.0, math.log(largest))))))


def _small_disk(
    choice: random.Random, place: Workplace, server: ForkServer, job: Job, unbroken: Unbroken
) -> Ended:
    """All files together may hold some kilobytes, on a disk of its own that :func:`_whole_again` takes away."""
    free = int(choice.random() * 1.2 * _kilobytes(unbroken.files))
    kilobytes = 8 + _kilobytes(place.run) + free
    given = place.run.rename(place.run.with_name("given"))
    place.run.mkdir()
    _mount(place.run, "-t", "tmpfs", "-o", f"size={kilobytes}k", "none")
    shutil.copytree(given, place.run, dirs_exist_ok=True)
    shutil.rmtree(given)
    ended = server.run(job)
    _mount(place.run, "-o", "remount,size=64m")
    return ended


def _kilobytes(folder: Path) -> int:
    """That the files of a folder take on a disk of pages of 4 kB."""
    return sum(4 * math.ceil(path.stat().st_size / 4096) for path in files(folder).values())


def _read_only(choice: random.Random, place: Workplace, server: ForkServer, job: Job, _: Unbroken) -> Ended:
    """Some of the folders may not be written."""
    (place.run / "out").mkdir()
    among = [place.run / name for name in ("home", "checkpoints", "out", ".")]
    closed = choice.sample(among, choice.randint(1, len(among)))
    for folder in closed:
        folder.chmod(0o555)
    ended = server.run(replace(job, heeds_permissions=True))
    for folder in closed:
        folder.chmod(0o755)
    (place.run / "out").rmdir() if not any((place.run / "out").iterdir()) else None
    return ended


def _deleted(
    choice: random.Random, place: Workplace, server: ForkServer, job: Job, unbroken: Unbroken
) -> Ended:
    """A folder is deleted under the run."""
    name = choice.choice(["out", "home", "checkpoints", "."])
    after = choice.uniform(0.0, unbroken.seconds)
    return server.run(replace(job, removes=place.run / name, remove_after=after))


def _nowhere(_: random.Random, __: Workplace, server: ForkServer, job: Job, ___: Unbroken) -> Ended:
    """The working folder was deleted before the run began."""
    return server.run(replace(job, has_no_folder=True))


def _little_memory(choice: random.Random, _: Workplace, server: ForkServer, job: Job, __: Unbroken) -> Ended:
    """Little memory is left once all is imported."""
    low, high = map(math.log, MEMORY)
    return server.run(replace(job, more_memory=int(math.exp(choice.uniform(low, high)))))


TROUBLES: Mapping[str, Trouble] = {
    "full disk": _full_disk,
    "small disk": _small_disk,
    "read-only folder": _read_only,
    "deleted folder": _deleted,
    "no working folder": _nowhere,
    "little memory": _little_memory,
}
"""What can happen to a run."""


@contextmanager
def _whole_again(place: Workplace, trouble: str) -> Iterator[None]:
    try:
        yield
    finally:
        if trouble == "small disk":
            subprocess.run(["umount", str(place.run)], check=False, capture_output=True)


def _mounts() -> bool:
    """Whether root may mount a disk here, which containers often refuse."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount(Path(folder), "-t", "tmpfs", "-o", "size=64k", "none")
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", folder], check=False, capture_output=True)
    return True


def _mount(folder: Path, *options: str) -> None:
    subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)
