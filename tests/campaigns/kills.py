"""Runs that are killed at any moment, again and again, and end as if they had never been interrupted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from campaigns.comparison import differences, files
from campaigns.forked import Ended, ForkServer, Job
from campaigns.small_runs import WRITING, Arguments, Workplace, workplace
from campaigns.tally import Tally
from personaprobe.storage.leftovers import leftovers

IN_A_CHAIN = 4
"""Kills of one run at most, before it may end."""


@dataclass(frozen=True)
class Unbroken:
    """A run that nothing interrupted.

    Attributes:
        files: the folder that holds what it left.
        seconds: that it took, with all imports done.
        changes: how often it changed files and folders.
    """

    files: Path
    seconds: float
    changes: int

    @classmethod
    def of(cls, verb: str, place: Workplace, server: ForkServer, arguments: Arguments) -> Unbroken:
        """Run a command twice, the first time to import what it needs, and keep what the second run left.

        Raises:
            AssertionError: it did not end well.
        """
        for warms in (True, False):
            place.clean()
            ended = server.run(replace(place.job(arguments(place)), warms=warms))
            assert ended.code == 0, f"{verb}: {ended.fault or ended.err}"
            assert ended.fault is None, f"{verb}: {ended.fault}"
        kept = place.run.with_name(f"unbroken {verb}")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(place.run, kept, symlinks=True)
        assert files(kept), f"{verb} writes nothing"
        assert ended.changes
        return cls(kept, ended.seconds, ended.changes)

    def faults(self, place: Workplace, is_shared: bool = False) -> list[str]:
        """How files of a run, or of two at once, differ from those of this one, temporary ones included."""
        left = [f"{each.path.name} is left over" for each in leftovers(place.run, below=True)]
        return left or differences(self.files, place.run, is_shared)


def kills(
    seed: int,
    size: int,
    folder: Path,
    verbs: Mapping[str, Arguments] = WRITING,
    servers: tuple[ForkServer, ForkServer] | None = None,
) -> list[Tally]:
    """Kill runs of every verb, start them again, and compare with unbroken runs.

    Half of the kills come at a random moment, half just before a random change of a file or folder.

    Args:
        seed: of the moments.
        size: kills in all, in equal shares; somewhat fewer of a verb whose runs end before they are killed.
        folder: an empty one, for everything.
        verbs: whose runs are killed.
        servers: drivers of unbroken and of killed runs; by default two that order sets differently.
    """
    with ExitStack() as stack:
        place = stack.enter_context(workplace(folder))
        whole, killed = servers or [stack.enter_context(ForkServer(hash_seed)) for hash_seed in (1, 2)]
        tallies = []
        for verb, arguments in verbs.items():
            unbroken = Unbroken.of(verb, place, whole, arguments)
            share = -(-size // len(verbs))
            tallies.append(_killed(verb, seed, share, place, killed, unbroken, arguments))
        return tallies


def _killed(
    verb: str,
    seed: int,
    size: int,
    place: Workplace,
    server: ForkServer,
    unbroken: Unbroken,
    arguments: Arguments,
) -> Tally:
    """Chains of kills of one verb."""
    tally = Tally("kills", verb)
    place.clean()
    server.run(replace(place.job(arguments(place)), warms=True))
    for number in range(3 * size):
        if tally.tried >= size:
            break
        choice = random.Random(f"{seed} {verb} {number}")
        place.clean()
        n_kills, ended = _chain(
            choice, min(IN_A_CHAIN, size - tally.tried), place, server, unbroken, arguments
        )
        tally = tally.plus(tried=n_kills)
        faults = [ended.fault or ended.err.strip()] if ended.code != 0 else unbroken.faults(place)
        if not faults:
            tally = tally.plus(accepted=1, checked=1)
        for fault in faults[:5]:
            tally = tally.plus(failure=f"{verb}, seed {seed}, chain {number} of {n_kills} kills: {fault}")
    return tally


def _chain(
    choice: random.Random,
    most: int,
    place: Workplace,
    server: ForkServer,
    unbroken: Unbroken,
    arguments: Arguments,
) -> tuple[int, Ended]:
    """Kill a run so many times and let it end, unless it ends before; the kills, and the end."""
    for n_kills in range(choice.randint(1, most)):
        ended = server.run(_doomed(place.job(arguments(place)), choice, unbroken))
        if not ended.was_killed or ended.fault:
            return n_kills, ended
    return n_kills + 1, server.run(place.job(arguments(place)))


def _doomed(job: Job, choice: random.Random, unbroken: Unbroken) -> Job:
    if choice.random() < 0.5:
        return replace(job, kill_after=choice.uniform(0.0, unbroken.seconds))
    return replace(job, kill_at_change=choice.randint(1, unbroken.changes))
