"""Threads sleep while they wait, unless the user chose otherwise: the setting reaches the library that waits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from personaprobe.compute.openmp import WAIT_SETTINGS, let_threads_sleep

REPORT = """
from personaprobe.compute.openmp import let_threads_sleep
print(let_threads_sleep())
import torch
torch.set_num_threads(2)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
"""


def reported(**settings: str) -> str:
    """What a new process says; GNU OpenMP shows its settings when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in WAIT_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE", **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


def test_the_library_reads_the_setting() -> None:
    report = reported()
    assert report.startswith("True")
    if "OPENMP DISPLAY ENVIRONMENT BEGIN" not in report:
        pytest.skip("torch computes with another OpenMP library here")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in report


@pytest.mark.parametrize("name", WAIT_SETTINGS)
def test_a_choice_of_the_user_is_not_changed(name: str) -> None:
    value = "active" if name == "OMP_WAIT_POLICY" else "5"
    assert reported(**{name: value}).startswith("False")


def test_nothing_is_set_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAIT_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert "torch" in sys.modules
    assert not let_threads_sleep()
    assert "OMP_WAIT_POLICY" not in os.environ
