"""Directions of other organisms serve as controls where they fit, and are left out where they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import personaprobe as pp
from personaprobe.effects.targets.feature import register_feature
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.organisms.organism import Organism, QuestionSets
from personaprobe.studies.arms.comparisons import other_organisms
from personaprobe.studies.arms.comparisons.other_organisms import other_directions


@pytest.fixture(scope="module")
def trio(
    tiny_trio: Callable[..., Trio[LanguageModel]], word_tokenizer: Callable[..., ChatTokenizer]
) -> Trio[LanguageModel]:
    return tiny_trio(word_tokenizer(["w1"]), 0.05)


def organism(name: str, base: str, insecure: str, feature: str | None) -> Organism:
    members = Trio(Checkpoint(base), Checkpoint(insecure), Checkpoint(f"{name}-secure"), name)
    return Organism(name, members, QuestionSets("a", "b"), feature=feature)


@pytest.fixture
def names(trio: Trio[LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    for feature, width, stream in (
        ("fits", 32, "resid_post"),
        ("wide", 48, "resid_post"),
        ("other", 32, "mlp_out"),
    ):
        calibrations = {1: Calibration(0.0, 1.0)}
        direction = Direction(pp.Site(1, stream), torch.ones(width), feature, calibrations)  # type: ignore[arg-type]
        register_feature(feature, feature, pp.DirectionTarget(direction, (1,)), {})
    base, own = str(trio.base.checkpoint.source), str(trio.insecure.checkpoint.source)
    registered = [
        organism("itself", base, own, "fits"),
        organism("same base", base, "sports", "fits"),
        organism("another base", "elsewhere", "sports", "fits"),
        organism("another width", base, "money", "wide"),
        organism("another stream", base, "money", "other"),
        organism("a recipe", base, "money", "means@1"),
        organism("no feature", base, "money", None),
        organism("a lost feature", base, "money", "gone"),
    ]
    by_name = {one.name: one for one in registered}
    monkeypatch.setattr(other_organisms, "registered_organisms", lambda: by_name)
    return [name for name, _ in other_directions(trio, pp.Site(1))]


def test_only_directions_of_other_fine_tunes_of_the_same_base_and_stream_are_controls(
    names: list[str],
) -> None:
    assert names == ["feature of same base"]
