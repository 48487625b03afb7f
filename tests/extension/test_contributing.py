"""The how-tos of CONTRIBUTING are true: each block of code runs as an outside package would, and does what it says."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import personaprobe as pp
from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
MODULE = "my_package"
Namespace = Mapping[str, Any]

REGISTRIES = (
    "personaprobe.effects.judges.registry._registered",
    "personaprobe.features.sae.training.architectures.registry._registered",
)


def how_tos() -> dict[str, str]:
    """The Python of each how-to, by its heading."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- extending: begin -->")[2]
    text = text.partition("<!-- extending: end -->")[0]
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    blocks = {
        section.partition("\n")[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        for section in sections
    }
    return {heading: "\n".join(found) for heading, found in blocks.items() if found}


HOW_TOS = how_tos()


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations of a how-to, and its module, end with its test."""
    monkeypatch.setitem(sys.modules, MODULE, types.ModuleType(MODULE))
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, {})


def run(heading: str) -> Namespace:
    """Execute a how-to as a module of its own."""
    module = sys.modules[MODULE]
    exec(compile(HOW_TOS[heading], f"CONTRIBUTING.md, {heading}", "exec"), module.__dict__)
    return module.__dict__


def judge(_: Namespace) -> None:
    from personaprobe.models.loading import Placement

    opened = pp.find_judge("length:4", Placement("cpu"))
    rubric = next(iter(DEFAULT_RUBRICS.values()))
    cases = [pp.Case(rubric, "How?", answer) for answer in ("one two", "")]
    scored, unscored = opened.judge(cases)
    assert isinstance(scored, pp.Scored)
    assert scored.raw == "2 words"
    assert isinstance(unscored, pp.Unscored)


def objective(_: Namespace) -> None:
    from personaprobe.features.sae.training.architectures.registry import find_architecture
    from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer

    rows = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    trainer = SAETrainer(SAERecipe(find_architecture("squared", weight=0.5), d_sae=16, steps=20), rows)
    trainer.step(rows)
    first = trainer.metrics().losses
    while not trainer.is_finished:
        trainer.step(rows)
    last = trainer.metrics().losses
    assert set(last) == {"mse", "squared"}
    assert sum(last.values()) < sum(first.values())


CHECKS: Mapping[str, Callable[[Namespace], None]] = {
    "A judge": judge,
    "A training objective for dictionaries": objective,
}


@pytest.mark.parametrize("heading", HOW_TOS)
def test_a_how_to_does_what_it_says(heading: str) -> None:
    assert heading in CHECKS, "every how-to is held by a check here"
    CHECKS[heading](run(heading))


def test_no_check_is_left_without_its_how_to() -> None:
    assert set(CHECKS) <= set(HOW_TOS)
