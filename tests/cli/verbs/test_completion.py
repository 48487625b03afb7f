"""``personaprobe completion``, and what shells complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import personaprobe

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_every_shell(run: Run, shell: str) -> None:
    assert "_PERSONAPROBE_COMPLETE" in run("completion", shell).stdout


def test_a_shell_completes_verbs_and_registered_names(registered: Path) -> None:
    def complete(words: str) -> str:
        count = str(len(words.split(" ")) - 1)
        variables = {"_PERSONAPROBE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
        return personaprobe(**variables).stdout

    assert complete("personaprobe abl").split() == ["plain,ablate"]
    assert complete("personaprobe ablate --organism ti").split() == ["plain,tiny"]
