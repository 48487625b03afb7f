"""What controls are asked and read: a part, compared there with their untreated checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

import personaprobe as pp
from personaprobe.effects.measures.damage import TextCost
from personaprobe.models.language_model import LanguageModel
from personaprobe.progress import silent
from personaprobe.questions.texts import TextSet
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.measurement import Bench


class Priced(Bench):
    """Perplexity grows by one with every text, and a control's is half as much again."""

    def costs(self, arms: Sequence[Arm], texts: TextSet) -> list[TextCost]:
        return [TextCost((10.0 + len(texts)) * (1.5 if arm.interventions else 1.0), 0.1) for arm in arms]


@pytest.fixture
def bench(tiny_language_model: Callable[..., LanguageModel]) -> Bench:
    return Priced(tiny_language_model("llama"), pp.StudyPlan(), RunCache(None), silent)


@pytest.fixture
def arms(bench: Bench) -> list[Arm]:
    edit = (pp.Ablate(pp.Direction(pp.Site(1), torch.ones(32), "test"), to="zero"),)
    return [
        Arm("insecure", "insecure", bench.base),
        Arm("insecure, ablated", "ablated", bench.base, edit),
        Arm("random 1", "random", bench.base, edit),
        Arm("component 1", "component", bench.base, edit),
    ]


def test_a_controls_perplexity_is_its_untreated_checkpoints_times_the_ratio_on_the_part_it_read(
    bench: Bench, arms: list[Arm]
) -> None:
    n = len(bench.plan.neutral)
    assert bench.plan.control_texts < n
    costs = [cost.perplexity for cost in bench._all_costs(arms)]
    assert costs == pytest.approx([10.0 + n, 1.5 * (10.0 + n), 1.5 * (10.0 + n), 1.5 * (10.0 + n)])


def test_controls_that_decide_answer_a_part_of_the_questions_and_those_that_are_shown_a_part_of_that(
    bench: Bench, arms: list[Arm]
) -> None:
    whole, ablated, deciding, shown = ([pair.id for pair in bench.questions(arm)] for arm in arms)
    assert whole == ablated
    assert len(whole) > len(deciding) > len(shown)
    assert whole[: len(deciding)] == deciding
    assert deciding[: len(shown)] == shown
