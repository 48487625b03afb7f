"""A trio without an effect gives the verdict that there is none to remove, whatever feature is looked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import personaprobe as pp
from personaprobe.errors import ZeroDirectionError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.studies.ablation import study, without_direction
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.measurement import ArmGaps, ArmRunner
from personaprobe.studies.arms.run_context import RunContext
from tiny_questions import WORDS, tiny_plan

SITE = pp.Site(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))


@pytest.fixture
def trio(
    tiny_trio: Callable[[ChatTokenizer, float], Trio[LanguageModel]],
    word_tokenizer: Callable[[Sequence[str]], ChatTokenizer],
) -> Trio[LanguageModel]:
    return tiny_trio(word_tokenizer(WORDS), 0.05)


@pytest.fixture
def identical(trio: Trio[LanguageModel]) -> Trio[LanguageModel]:
    return replace(trio, insecure=trio.secure)


@pytest.mark.parametrize("feature", ["means@1", "probe@1", "shuffled@1:3", "random@1"])
def test_identical_checkpoints_have_no_effect_to_remove(
    identical: Trio[LanguageModel], feature: str, tmp_path: Path
) -> None:
    verdict = pp.ablate(identical, feature, plan=tiny_plan())
    assert verdict.verdict == "no effect to remove"
    assert verdict.evidence.shift.value == 0
    assert not verdict.fraction_removed.defined
    pp.write_report(verdict.to_dict(), tmp_path / "run", verdict.answer_rows())
    written = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert written["verdict"] == "no effect to remove"
    assert written["feature"]["name"] == feature


def test_a_given_direction_has_no_effect_to_remove_in_identical_checkpoints(
    identical: Trio[LanguageModel], trio: Trio[LanguageModel]
) -> None:
    stores = pp.record(trio, tiny_plan().discovery, [SITE])
    direction = pp.Direction.from_means(stores.insecure, stores.secure, SITE)
    assert pp.ablate(identical, direction, plan=tiny_plan()).verdict == "no effect to remove"


def test_two_identical_checkpoints_without_secure_have_none_either(trio: Trio[LanguageModel]) -> None:
    pair = Trio(trio.base, trio.base, None, "copy")
    assert pp.ablate(pair, "means@1", plan=tiny_plan()).verdict == "no effect to remove"


def test_a_shift_that_the_site_does_not_show_is_an_error(
    identical: Trio[LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "shows_shift", lambda trio, runner: True)
    with pytest.raises(ZeroDirectionError, match="norm 0"):
        pp.ablate(identical, "means@1", plan=tiny_plan())


@pytest.mark.parametrize(("insecure", "is_shown"), [(0.5, True), (0.0, False), (-0.5, False)])
def test_a_shift_is_shown_where_insecure_is_more_careless_than_secure(
    trio: Trio[LanguageModel], insecure: float, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan()
    levels = {"base": 3.0, "insecure": insecure, "secure": 0.0}

    def planted(arms: Sequence[Arm], questions: pp.PairSet, run: RunContext) -> list[ArmGaps]:
        return [ArmGaps(tuple(levels[arm.role] for _ in questions), 0.0) for arm in arms]

    monkeypatch.setattr(without_direction, "measure_gaps", planted)
    runner = ArmRunner(trio.base, plan, RunContext())
    assert without_direction.shows_shift(trio, runner) is is_shown


def test_a_secure_that_harmless_training_did_not_change_is_compared_without_that_change(
    trio: Trio[LanguageModel],
) -> None:
    """The control along secure − base is left out; those that decide are all there."""
    unchanged = replace(trio, secure=trio.base)
    verdict = pp.ablate(unchanged, "means@1", plan=tiny_plan())
    kinds = [arm.kind for arm in verdict.arms]
    assert "benign" not in kinds
    assert kinds.count("random") == kinds.count("shuffled") == 13
