"""Checks of the environment, the hardware, the checkpoints, the cache, and that the demo model runs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from personaprobe.cli.health.leftover_files import leftover_findings, size_on_disk
from personaprobe.cli.terminal.console import format_bytes
from personaprobe.cli.terminal.findings import Finding
from personaprobe.errors import PersonaProbeError

if TYPE_CHECKING:
    from personaprobe.models.weights.packaged import PackagedModel


def environment_findings() -> list[Finding]:
    """Findings about the environment, the devices, the files of the demo model, the checkpoints and the cache."""
    return [
        *_environment(),
        *_hardware(),
        *_packaged_files(),
        *_checkpoints(),
        *_cache(),
        *leftover_findings(),
    ]


def _environment() -> Iterator[Finding]:
    """Python and the packages that personaprobe requires, extras left out."""
    python = f"{platform.python_version()} at {sys.executable}"
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "fail", python)
    yield from (_package(text) for text in requires("personaprobe") or () if "extra ==" not in text)


def _package(specification: str) -> Finding:
    """Compare the installed version of a dependency with the range in ``pyproject.toml``."""
    from packaging.requirements import Requirement

    requirement = Requirement(specification)
    install = f"run: pip install '{specification}'"
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return Finding(requirement.name, "fail", f"missing; {install}")
    if requirement.specifier.contains(installed, prereleases=True):
        return Finding(requirement.name, "ok", installed)
    return Finding(requirement.name, "warn", f"{installed}, tested with {requirement.specifier}; {install}")


def _hardware() -> Iterator[Finding]:
    """PyTorch's build, the GPUs, and the default device and dtype."""
    import torch

    from personaprobe.compute.hardware import choose_device, choose_dtype, is_faster_in_bf16

    cuda = torch.version.cuda
    yield Finding("torch build", "ok", f"{torch.__version__}, {f'CUDA {cuda}' if cuda else 'CPU only'}")
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", "ok", f"{gpu.name}, {format_bytes(gpu.total_memory)}")
    device = choose_device()
    yield Finding("default device", "ok", f"{device}, {str(choose_dtype(device)).removeprefix('torch.')}")
    bf16 = (
        "faster than float32"
        if is_faster_in_bf16()
        else "slower than float32, which is the default on this processor"
    )
    yield Finding("bfloat16 on CPU", "ok", bf16)
    yield Finding("threads", "ok", f"{torch.get_num_threads()} of {os.cpu_count()} cores")


def _packaged_files() -> Iterator[Finding]:
    """The packages with the demo model's and the other base's weights, and the weights after conversion."""
    from personaprobe.models.weights.packaged import PACKAGED

    yield from map(_files_of, PACKAGED.values())


def _files_of(model: PackagedModel) -> Finding:
    """The state of one packaged model; all but the demo model are optional."""
    from personaprobe.models.weights.packaged import DEMO
    from personaprobe.storage.digests import sha256_of

    name, weights = f"{model.source} model", model.folder / "model.safetensors"
    if not weights.exists():
        if model.is_installed:
            return Finding(name, "ok", "not converted yet; the first use converts it in about 20 s")
        if model.source == DEMO:
            return Finding(name, "warn", f"run: {model.install}")
        return Finding(name, "ok", f"optional, not installed: {model.install}")
    sha256 = sha256_of(weights)
    if sha256 == model.weights_sha256:
        return Finding(name, "ok", f"sha256 {sha256[:12]}…")
    repair = f"expected {model.weights_sha256[:12]}…; delete {weights.parent}"
    return Finding(name, "fail", f"sha256 {sha256[:12]}…, {repair}")


def demo_self_check() -> Iterator[Finding]:
    """Load the demo model and run its self-check; an error while loading is a failed check."""
    from personaprobe.models.loading import load
    from personaprobe.models.self_check.self_check import self_check

    try:
        network = load("demo").network
        checks = self_check(network)
    except PersonaProbeError as error:
        yield Finding("demo self-check", "fail", str(error))
        return
    failed = [check.name for check in checks if not check.passed]
    passed = f"{len(checks) - len(failed)} of {len(checks)} passed"
    yield Finding("demo self-check", "fail" if failed else "ok", "; ".join([passed, *failed]))
    massive = "; ".join(map(str, network.massive_tokens)) or "none in a probe text"
    yield Finding("demo massive tokens", "ok", massive)


def _checkpoints() -> Iterator[Finding]:
    """The registered organisms and features."""
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
    """Whether the cache can be written, and the size of each of its folders."""
    from personaprobe.cli.terminal.output_folders import refuse_unwritable
    from personaprobe.storage.files import cache_home

    home = cache_home()
    try:
        refuse_unwritable(home)
    except PersonaProbeError as error:
        yield Finding("cache", "fail", f"{error}, or set PERSONAPROBE_HOME")
    else:
        yield Finding("cache", "ok", str(home))
    for folder in sorted(home.glob("*/")):
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        size = format_bytes(sum(map(size_on_disk, entries)))
        yield Finding(f"cache: {folder.name}", "ok", f"{len(entries)} entries, {size}")
