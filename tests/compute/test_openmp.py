"""Threads spin for a while before they sleep, unless the user chose otherwise; the setting reaches their library."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from personaprobe.compute import openmp
from personaprobe.compute.openmp import SPINS_ALONE, SPINS_BESIDE_WORK, WAIT_SETTINGS, limit_spinning

REPORT = """
from personaprobe.compute.openmp import limit_spinning
print(limit_spinning())
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
    spins = report.split()[0]
    assert spins in map(str, (SPINS_ALONE, SPINS_BESIDE_WORK))
    if "OPENMP DISPLAY ENVIRONMENT BEGIN" not in report:
        pytest.skip("torch computes with another OpenMP library here")
    assert f"GOMP_SPINCOUNT = '{spins}'" in report


@pytest.mark.parametrize(
    ("running", "spins"),
    [((1, 1, 1), SPINS_ALONE), ((3, 1, 2), SPINS_ALONE), ((2, 2, 3), SPINS_BESIDE_WORK)],
)
def test_threads_spin_longer_where_no_core_is_wanted_by_others(
    running: tuple[int, ...], spins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WAIT_SETTINGS:
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(openmp, "running_threads", iter(running).__next__)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert limit_spinning() == spins
    assert os.environ["GOMP_SPINCOUNT"] == str(spins)


def test_this_machine_says_how_many_threads_run() -> None:
    assert openmp._threads_of_others() >= 0


@pytest.mark.parametrize("name", WAIT_SETTINGS)
def test_a_choice_of_the_user_is_not_changed(name: str) -> None:
    value = "active" if name == "OMP_WAIT_POLICY" else "5"
    assert reported(**{name: value}).startswith("None")


def test_nothing_is_set_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAIT_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert "torch" in sys.modules
    assert limit_spinning() is None
    assert "GOMP_SPINCOUNT" not in os.environ
