"""Processes that change the same file, fill the same folder or convert the same thing for the first time, all at once."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from campaigns.forked import Ended, ForkServer, Job
from campaigns.kills import Unbroken
from campaigns.small_runs import SITE, WRITING, Arguments, Workplace, workplace
from campaigns.tally import Tally

AT_ONCE = 6
"""Processes that change one registry."""

Changes = Callable[[Workplace, int, int], Sequence[list[object]]]
"""Commands of a round, of its number and of how many there are."""
Kept = Callable[[Workplace, int, int], list[str]]
"""What was lost after a round, in words."""


def registries(
    seed: int,
    size: int,
    folder: Path,
    at_once: int = AT_ONCE,
    only: tuple[str, ...] = (),
    server: ForkServer | None = None,
) -> list[Tally]:
    """Let processes change a registry at once, in rounds, and count the changes that were lost.

    Args:
        seed: of the order in which the processes start.
        size: rounds of each kind.
        folder: an empty one, for everything.
        at_once: processes of a round.
        only: names of :data:`RACES`; all by default.
        server: runs the commands; by default one of its own.
    """
    with ExitStack() as stack:
        place = stack.enter_context(workplace(folder))
        server = server or stack.enter_context(ForkServer())
        tallies = []
        for subject in only or RACES:
            changes, lost = RACES[subject]
            tally = Tally("registries", subject)
            place.clean()
            server.run(replace(place.job(changes(place, 0, 1)[0]), warms=True))
            place.clean()
            for number in range(size):
                jobs = [place.job(arguments) for arguments in changes(place, number, at_once)]
                random.Random(f"{seed} {subject} {number}").shuffle(jobs)
                ended = server.run_all(jobs)
                tally = _counted(tally, ended, lost(place, number, at_once), f"seed {seed}, round {number}")
            tallies.append(tally)
        return tallies


def same_runs(
    seed: int, size: int, folder: Path, verbs: Mapping[str, Arguments] = WRITING, converts: bool = False
) -> list[Tally]:
    """Let two processes run the same command in the same folder at once, both for the first time.

    Args:
        seed: of the time that lies between their starts; the first round has none.
        size: rounds of each verb.
        folder: an empty one, for everything.
        verbs: what is run.
        converts: whether two processes also convert the demo model at once, which takes a minute.
    """
    with ExitStack() as stack:
        place = stack.enter_context(workplace(folder))
        server = stack.enter_context(ForkServer())
        tallies = []
        for verb, arguments in verbs.items():
            tally = Tally("two at once", verb)
            unbroken = Unbroken.of(verb, place, server, arguments)
            for number in range(size):
                place.clean()
                job = place.job(arguments(place))
                later = (
                    random.Random(f"{seed} {verb} {number}").uniform(0.0, unbroken.seconds) if number else 0.0
                )
                ended = server.run_all([job, replace(job, waits=later)])
                faults = (
                    unbroken.faults(place, is_shared=True) if all(each.code == 0 for each in ended) else []
                )
                tally = _counted(tally, ended, faults, f"seed {seed}, round {number}")
            tallies.append(tally)
        return [*tallies, _converted_twice(place, server)] if converts else tallies


def _counted(tally: Tally, ended: Sequence[Ended], faults: Sequence[str], case: str) -> Tally:
    """Add a round in which nothing may be refused."""
    faults = [each.fault or each.err.strip() for each in ended if each.code != 0 or each.fault] + list(faults)
    accepted = sum(each.code == 0 for each in ended)
    tally = tally.plus(tried=len(ended), accepted=accepted, checked=accepted, refused=len(ended) - accepted)
    for fault in faults[:3]:
        tally = tally.plus(failure=f"{tally.subject}, {case}: {fault}")
    return tally


def _name_latents(place: Workplace, number: int, n: int) -> list[list[object]]:
    first = number * n % 40
    return [
        ["features", "name", each, f"name {each}", "--sae", place.dictionary]
        for each in range(first, first + n)
    ]


def _lost_names(place: Workplace, number: int, n: int) -> list[str]:
    registry = (place.run / "checkpoints" / "features.toml").read_text()
    first = number * n % 40
    return [
        f"the name of latent {each} is lost"
        for each in range(first, first + n)
        if f'"name {each}"' not in registry
    ]


def _register_organisms(place: Workplace, number: int, n: int) -> list[list[object]]:
    """Each process registers one organism and, after the first round, one of an earlier round is removed as well."""
    options = ["--base", place.trio.base, "--dtype", "float32", "--quiet"]
    folder = place.trio.base.parent
    new = [
        ["organisms", "register", folder, "--name", f"round-{number}-{each}", *options] for each in range(n)
    ]
    return [*new, ["organisms", "remove", f"round-{number - 1}-0"]] if number else new


def _lost_organisms(place: Workplace, number: int, n: int) -> list[str]:
    registry = tomllib.loads((place.run / "checkpoints" / "organisms.toml").read_text())
    wanted = {f"round-{earlier}-{each}" for earlier in range(number + 1) for each in range(n)}
    wanted -= {f"round-{earlier}-0" for earlier in range(number)}
    return [f"{name} is lost" for name in wanted - set(registry)] + [
        f"{name} is there, which was removed" for name in set(registry) - wanted
    ]


def _register_features(place: Workplace, number: int, n: int) -> list[list[object]]:
    """Sweeps that register what they found, and processes that name latents in the same file."""
    grid = ["--sources", "means", "--layers", "0", "--reaches", "own", "--doses", "1", "--min-coherence", 0]
    few = ["--questions", 4, "--texts", 1, "--answers", 0, "--max-perplexity-ratio", 50, "--quiet"]
    options = [*place.trio.options(), "--discovery", place.trio.discovery, *grid, *few]
    sweeps: list[list[object]] = [
        ["sweep", *options, "--register", f"round-{number}-{each}", "--out", f"out-{number}-{each}"]
        for each in range(max(1, n // 2))
    ]
    return [*sweeps, *_name_latents(place, number, n - len(sweeps))]


def _lost_features(place: Workplace, number: int, n: int) -> list[str]:
    registry = tomllib.loads((place.run / "checkpoints" / "features.toml").read_text())
    n_sweeps = max(1, n // 2)
    wanted = {f"round-{earlier}-{each}" for earlier in range(number + 1) for each in range(n_sweeps)}
    return [f"{name} is lost" for name in wanted - set(registry)] + _lost_names(place, number, n - n_sweeps)


def _extract_at_once(place: Workplace, number: int, n: int) -> list[list[object]]:
    """Activations of the same texts into the cache, by all."""
    options = ["--texts", place.trio.questions, "--sites", SITE, "--json", "--quiet"]
    return [["extract", *place.trio.options(), *options] for _ in range(n)]


def _lost_stores(place: Workplace, number: int, n: int) -> list[str]:
    manifests = list((place.run / "home" / "stores").glob("*/manifest.json"))
    whole = [json.loads(path.read_text()) for path in manifests]
    return [] if len(whole) == 3 else [f"{len(whole)} stores are there, and not 3"]


RACES: Mapping[str, tuple[Changes, Kept]] = {
    "features.toml, names": (_name_latents, _lost_names),
    "features.toml, names and registered features": (_register_features, _lost_features),
    "organisms.toml, registered and removed": (_register_organisms, _lost_organisms),
    "activations recorded by all": (_extract_at_once, _lost_stores),
}
"""What is changed at once, and what a round must have kept."""


def _converted_twice(place: Workplace, server: ForkServer) -> Tally:
    """Two first runs that convert the demo model, with the shipped adapters."""
    place.clean()
    shipped = Path(__file__).resolve().parents[2] / "checkpoints"
    arguments = [
        "extract",
        "--texts",
        place.trio.neutral,
        "--sites",
        SITE,
        "--dtype",
        "float32",
        "--json",
        "--quiet",
    ]
    job: Job = place.job(arguments)
    job = replace(
        job, environment={**job.environment, "PERSONAPROBE_CHECKPOINTS": str(shipped)}, deadline=400
    )
    ended = server.run_all([job, job])
    faults = [] if ended[0].out == ended[1].out else ["the two print other stores"]
    return _counted(Tally("two at once", "conversion of the demo model"), ended, faults, "round 0")
