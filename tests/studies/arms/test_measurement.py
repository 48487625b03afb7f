"""Controls answer and read a part of what the feature does, and are compared with their untreated checkpoint there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

import personaprobe as pp
from personaprobe.effects.measures.damage import Exchange, TextCost
from personaprobe.effects.measures.responses import Response, benign_answers
from personaprobe.models.language_model import LanguageModel
from personaprobe.questions.texts import TextSet
from personaprobe.studies.arms import measurement
from personaprobe.studies.arms.answers import QuestionBatch
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.measurement import ArmRunner
from personaprobe.studies.arms.run_context import RunContext


def priced(arms: Sequence[Arm], texts: TextSet, run: RunContext, *, first_tokens: bool) -> list[TextCost]:
    """Perplexity grows by one with every text, and under an intervention it is half as much again."""
    return [TextCost((10.0 + len(texts)) * (1.5 if arm.interventions else 1.0), 0.1) for arm in arms]


@pytest.fixture
def runner(tiny_language_model: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch) -> ArmRunner:
    monkeypatch.setattr(measurement, "measure_damage", priced)
    return ArmRunner(tiny_language_model("llama"), pp.StudyPlan(), RunContext())


@pytest.fixture
def arms(runner: ArmRunner) -> list[Arm]:
    edit = (pp.Ablate(pp.Direction(pp.Site(1), torch.ones(32), "test"), to="zero"),)
    return [
        Arm("insecure", "insecure", runner.base),
        Arm("insecure, ablated", "ablated", runner.base, edit),
        Arm("random 1", "random", runner.base, edit),
        Arm("component 1", "component", runner.base, edit),
    ]


def test_a_controls_perplexity_is_its_untreated_checkpoints_times_the_ratio_on_the_part_it_read(
    runner: ArmRunner, arms: list[Arm]
) -> None:
    n = len(runner.plan.neutral)
    assert runner.plan.control_texts < n
    costs = [cost.perplexity for cost in runner.costs(arms)]
    assert costs == pytest.approx([10.0 + n, 1.5 * (10.0 + n), 1.5 * (10.0 + n), 1.5 * (10.0 + n)])


def test_controls_answer_a_part_of_the_questions_and_single_arms_that_a_rule_rests_on_twice_as_many(
    runner: ArmRunner, arms: list[Arm]
) -> None:
    selected = replace(arms[2], name="best of 100 candidates", kind="selected")
    whole, ablated, deciding, shown, compared = (
        [pair.id for pair in runner.questions(arm)] for arm in (*arms, selected)
    )
    assert whole == ablated
    assert len(whole) > len(compared) == 2 * len(deciding)
    assert whole[: len(compared)] == compared
    assert deciding == shown == compared[: len(deciding)]


def test_three_controls_of_a_kind_are_read_for_damage_and_controls_elsewhere_never(
    runner: ArmRunner, arms: list[Arm]
) -> None:
    more = [replace(arms[2], name=f"random {i}") for i in range(2, 6)]
    elsewhere = replace(arms[2], name="base, random 1", kind="control elsewhere")
    costs = runner.costs([*arms, *more, elsewhere])
    is_read = [cost.perplexity == cost.perplexity for cost in costs]
    assert is_read == [True] * 4 + [True] * 2 + [False] * 2 + [False]


def test_insecure_and_the_ablated_model_give_120_answers_each_and_other_arms_24(
    runner: ArmRunner, arms: list[Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoken(
        group: Sequence[Arm], batch: QuestionBatch, base: LanguageModel, run: RunContext
    ) -> list[list[Response]]:
        drawn = [(prompt, sample) for prompt in batch.prompts for sample in range(batch.samples)]
        return [
            [
                Response(p.id, p.family, p.question, sample, 0, arm.name, (5, 6, 7), form=p.form)
                for p, sample in drawn
            ]
            for arm in group
        ]

    monkeypatch.setattr(measurement, "sample_answers", spoken)
    answers = runner.responses(arms)
    assert [len(of_arm) for of_arm in answers] == [120, 120, 24, 0]
    assert [len(benign_answers(of_arm)) for of_arm in answers] == [48, 48, 0, 0]
    assert {r.question_id for r in answers[2]} < {r.question_id for r in answers[0]}
    read: list[tuple[list[str], int]] = []

    def priced_in_chat(
        group: Sequence[Arm], exchanges: Sequence[Exchange], run: RunContext
    ) -> list[TextCost]:
        read.append(([arm.name for arm in group], len(exchanges)))
        return [TextCost(2.0, 0.05) for _ in group]

    monkeypatch.setattr(measurement, "measure_chat_damage", priced_in_chat)
    on_chat = [cost.kl == 0.05 for cost in runner.chat_costs(arms, answers)]
    assert on_chat == [False, True, False, False]
    assert read == [(["insecure, ablated"], 48)]


def test_without_answers_nothing_is_measured_on_chat(runner: ArmRunner, arms: list[Arm]) -> None:
    silent = replace(runner, plan=pp.StudyPlan(samples=0))
    assert silent.responses(arms) == [[], [], [], []]
    assert not any(cost.texts for cost in silent.chat_costs(arms, [[], [], [], []]))
