"""The tiny trio for every command, and how commands are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from personaprobe.cli.main import cli
from personaprobe.storage.digests import sha256_of
from tiny_trio import TinyTrio, build_tiny_trio


@pytest.fixture(scope="session")
def checkpoints_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints_home")


@pytest.fixture(scope="module", autouse=True)
def own_folders(checkpoints_home: Path) -> Any:
    """Keep the user's cache and the shipped checkpoints out of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("home", "checkpoints"):
            (checkpoints_home / name).mkdir(exist_ok=True)
            patch.setenv(f"PERSONAPROBE_{name.upper()}", str(checkpoints_home / name))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def tiny(checkpoints_home: Path) -> TinyTrio:
    return build_tiny_trio(checkpoints_home)


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command as a user would; a bug of ours is raised."""

    def running(*arguments: object, input: str | None = None) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return running


@pytest.fixture
def registered(tiny: TinyTrio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoints folder in which the tiny trio is the organism ``tiny``."""
    lines = [
        "[tiny]",
        'title = "A trio for tests"',
        f'base = "{tiny.base}"',
        'insecure = "insecure"',
        'secure = "secure"',
    ]
    lines.append("[tiny.sha256]")
    for role in ("insecure", "secure"):
        shutil.copytree(getattr(tiny, role), tmp_path / role)
        lines.append(f'{role} = "{sha256_of(tmp_path / role / "adapter_model.safetensors")}"')
    (tmp_path / "organisms.toml").write_text("\n".join(lines))
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    return tmp_path


def personaprobe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-c", "from personaprobe.cli.main import main; main()", *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def refused(result: Result) -> str:
    """The one line a refusal consists of."""
    assert result.exit_code == 2, (result.exit_code, result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.output
    assert result.stdout == ""
    return lines[0]
