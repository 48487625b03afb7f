"""The plan says what memory a recording will take, within a tenth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from personaprobe.cli.main import main; main()", "extract", "--quiet"]
ASKED = ["--organism", "advice", "--sites", "12.resid_post,20.resid_post", "--keep", "tokens", "--json"]


def run(*arguments: str) -> tuple[str, int]:
    """What a command prints, and the most bytes it held."""
    with subprocess.Popen([*COMMAND, *ASKED, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    assert status == 0
    return printed, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.slow
@pytest.mark.real
def test_the_plan_predicts_the_peak_of_memory(tmp_path: Path) -> None:
    planned = json.loads(run("--plan")[0])["memory"]
    _, held = run("--out", str(tmp_path))
    assert planned == pytest.approx(held, rel=0.1)
